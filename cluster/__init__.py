"""A Kubernetes cluster of one's own: machines, kubeadm nodes, network, ingress, workload."""
