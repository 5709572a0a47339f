package main

// exceptions lists the specs that are left out.
func exceptions() []exception {
	return []exception{
		{Spec: `\[sig-network\] Netpol`, Reason: "network policies are the network plugin's; the lab's has none"},
		{Spec: `SCTP|sctp`, Reason: "needs SCTP sockets, which the kernels of most machines do not offer"},
		{Spec: `\[Disruptive\]`, Reason: "restarts kube-proxy or the API server over SSH, or replaces kube-proxy", Never: true},
		{Spec: `DNS configMap`, Reason: "replaces the configuration of the cluster's DNS, which asks no server outside the lab", Never: true},
		{Spec: `\[Feature:PerformanceDNS\]`, Reason: "measures the cluster's DNS with 10,000 Services", Never: true},
		{Spec: `pods with same hostPort|CLOSE_WAIT timeout`, Reason: "ports of a node for a pod are the network plugin's; the lab's has none"},
		{Spec: `should run iperf2`, Reason: "reads what a newer iperf prints than Debian has"},
		{Spec: `Internet connection`, Reason: "the lab has no internet"},
		{Spec: `switch session affinity for LoadBalancer service with Local`, Reason: "wants affinity across nodes and, without it, pods of several nodes: the load balancer before the nodes would have to know about affinity"},
		{Spec: `cleanup finalizer`, Reason: "waits for a finalizer that cloud controllers set: it would make Services undeletable once Fairlead is uninstalled"},
	}
}
