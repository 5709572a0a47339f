package main

import (
	"path/filepath"
	"strconv"
)

// pki is where a host sees its certificates.
const pki = hostState + "/pki/"

// controlPrograms lists what runs on control, in the order in which it is started. The API server is reached from
// the machine over forwarder, the only process with a foot on both sides.
func controlPrograms(h host, bin string) []program {
	at := func(name string) string { return filepath.Join(bin, name) }
	return []program{
		{Host: h, Name: "etcd", Args: []string{
			at("etcd"), "--name=lab", "--data-dir=" + hostState + "/etcd",
			"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
			"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
			"--initial-cluster=lab=http://127.0.0.1:2380",
			"--unsafe-no-fsync", "--log-level=warn", // the data ends with the lab
		}},
		{Host: h, Name: "kube-apiserver", Args: append([]string{at("kube-apiserver")}, apiServerFlags()...)},
		{Host: h, Name: "kube-controller-manager", Args: append([]string{at("kube-controller-manager")}, controllerManagerFlags()...)},
		{Host: h, Name: "kube-scheduler", Args: []string{
			at("kube-scheduler"), "--kubeconfig=" + pki + "kube-scheduler.conf", "--leader-elect=false",
		}},
	}
}

func apiServerFlags() []string {
	return []string{
		"--advertise-address=" + apiAddress, "--secure-port=" + apiPort,
		"--etcd-servers=http://127.0.0.1:2379",
		"--service-cluster-ip-range=" + serviceCIDRs,
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--client-ca-file=" + pki + "ca.crt",
		"--tls-cert-file=" + pki + "kube-apiserver.crt", "--tls-private-key-file=" + pki + "kube-apiserver.key",
		"--kubelet-certificate-authority=" + pki + "ca.crt",
		"--kubelet-client-certificate=" + pki + "admin.crt", "--kubelet-client-key=" + pki + "admin.key",
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + pki + "tokens.pub", "--service-account-signing-key-file=" + pki + "ca.key",
		"--profiling=false",
	}
}

func controllerManagerFlags() []string {
	return []string{
		"--kubeconfig=" + pki + "kube-controller-manager.conf", "--leader-elect=false",
		"--use-service-account-credentials=true",
		"--root-ca-file=" + pki + "ca.crt",
		"--service-account-private-key-file=" + pki + "ca.key",
		"--cluster-signing-cert-file=" + pki + "ca.crt", "--cluster-signing-key-file=" + pki + "ca.key",
		// The lab chooses the pods' subnets itself, so that node N always has 10.244.N.0/24.
		"--allocate-node-cidrs=false", "--cluster-cidr=" + clusterCIDRs,
		"--service-cluster-ip-range=" + serviceCIDRs,
	}
}

// forwarder is this very command, started inside control with a listener of the machine's loopback as
// descriptor 3: it accepts there and dials here, so that no link between the two is needed.
func forwarder(h host, self string, listenerFD int) program {
	return program{Host: h, Name: "api-forwarder", Args: []string{self, "forward", strconv.Itoa(listenerFD), "127.0.0.1:" + apiPort}}
}
