package main

// exceptions lists the specs that are left out.
func exceptions() []exception {
	return []exception{
		{Spec: `SCTP|sctp`, Reason: "the kernel of most machines has no SCTP sockets loaded"},
		{Spec: `\[Disruptive\]`, Reason: "restarts kube-proxy or the API server over SSH", Never: true},
		{Spec: `\[Serial\]`, Reason: "wants the cluster for itself", Never: true},
		{Spec: `Internet connection`, Reason: "the lab has no internet"},
		{Spec: `cleanup finalizer`, Reason: "x"},
	}
}
