/* First process of every pod: holds the namespaces, reaps orphans, and leaves when asked. With -v it says what it
 * is and ends, as kubeadm has a pod do before an upgrade. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signal_number) {
  (void)signal_number;
  _exit(EXIT_SUCCESS);
}

static void reap(int signal_number) {
  (void)signal_number;
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "-v") == 0) {
    return puts("pause of the sandbox") < 0;
  }
  struct sigaction action = {.sa_handler = leave};
  if (sigaction(SIGINT, &action, NULL) || sigaction(SIGTERM, &action, NULL)) {
    return EXIT_FAILURE;
  }
  action.sa_handler = reap;
  action.sa_flags = SA_NOCLDSTOP | SA_RESTART;
  if (sigaction(SIGCHLD, &action, NULL)) {
    return EXIT_FAILURE;
  }
  for (;;) {
    pause();
  }
}
