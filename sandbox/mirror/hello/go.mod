module own-kubernetes/hello

go 1.25
