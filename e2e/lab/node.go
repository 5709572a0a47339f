package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
)

// writeNodeConfig writes the configuration of everything that runs on a node.
func (l lab) writeNodeConfig(h host) error {
	cni, err := cniConfig(h)
	if err != nil {
		return err
	}
	files := map[string]string{
		"containerd.toml":           containerdConfig,
		"kubelet.yaml":              kubeletConfig(h),
		"resolv.conf":               "# The lab has no name server outside the cluster.\nsearch .\n",
		"cni/net.d/10-lab.conflist": cni,
	}
	for name, content := range files {
		if err := writeFile(filepath.Join(l.hostDir(h), name), []byte(content)); err != nil {
			return err
		}
	}
	return nil
}

// containerdConfig is the same on every node: paths are told apart by the node's mount namespace.
// restrict_oom_score_adj lets pods start where root lacks CAP_SYS_RESOURCE.
const containerdConfig = `version = 2
root = "` + hostState + `/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "fairlead.dev/pause:lab"
restrict_oom_score_adj = true
disable_apparmor = true
tolerate_missing_hugetlb_controller = true
disable_hugetlb_controller = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "` + hostState + `/cni/net.d"

[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
`

// kubeletConfig never evicts pods for a full disk: the disk is the machine's, and so is the decision.
func kubeletConfig(h host) string {
	return `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: ` + pki + `ca.crt}
authorization: {mode: Webhook}
tlsCertFile: ` + pki + `kubelet.crt
tlsPrivateKeyFile: ` + pki + `kubelet.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /` + nodeCgroup(h) + `
failCgroupV1: false
failSwapOn: false
clusterDNS: ["` + dnsV4 + `"]
clusterDomain: cluster.local
resolvConf: ` + hostState + `/resolv.conf
makeIPTablesUtilChains: false
evictionHard: {imagefs.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.inodesFree: 0%}
imageGCHighThresholdPercent: 100
`
}

// cniConfig connects pods with a bridge; host-local hands out the node's pod subnets. hairpinMode lets a pod
// reach itself through a Service. Nothing is masqueraded.
func cniConfig(h host) (string, error) {
	var ranges [][]map[string]string
	for _, cidr := range h.podCIDRs() {
		ranges = append(ranges, []map[string]string{{"subnet": cidr.String()}})
	}
	config := map[string]any{
		"cniVersion": "0.4.0",
		"name":       "lab",
		"plugins": []any{map[string]any{
			"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
			"ipam": map[string]any{
				"type": "host-local", "dataDir": hostState + "/cni/addresses", "ranges": ranges,
				"routes": []map[string]string{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}},
			},
		}},
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write the pod network of %s: %w", h.Name, err)
	}
	return string(text) + "\n", nil
}

func containerdProgram(h host) program {
	return program{Host: h, Name: "containerd", Args: []string{"/usr/bin/containerd", "--config", hostState + "/containerd.toml"}}
}

// kubeletProgram reports both addresses of the node, or the IPv4 address alone.
func kubeletProgram(h host, bin string, onlyV4 bool) program {
	v4, v6 := h.NICs[0].Subnet.addresses(h.NICs[0].Last)
	addresses := v4.String()
	if !onlyV4 {
		addresses += "," + v6.String()
	}
	return program{Host: h, Name: "kubelet", Args: []string{
		filepath.Join(bin, "kubelet"),
		"--config=" + hostState + "/kubelet.yaml", "--kubeconfig=" + pki + "kubelet.conf",
		"--hostname-override=" + h.Name, "--node-ip=" + addresses,
	}}
}

func kubeProxyProgram(h host, bin, mode string) program {
	return program{Host: h, Name: "kube-proxy", Args: []string{
		filepath.Join(bin, "kube-proxy"), "--kubeconfig=" + pki + "kube-proxy.conf", "--proxy-mode=" + mode,
		"--hostname-override=" + h.Name, "--cluster-cidr=" + clusterCIDRs,
		// The size of the connection table is the machine's, not the node's.
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
	}}
}

// routerPrograms lists the routing daemons of a host. BIRD reads its configuration by itself, FRR's comes by loadFRR;
// tests may give them another one (vtysh and birdc find the daemons).
func routerPrograms(h host) []program {
	switch h.Role {
	case roleFRR:
		frr := func(name string, flags ...string) program {
			args := append([]string{"/usr/lib/frr/" + name, "--log", "stdout", "-A", "127.0.0.1"}, flags...)
			return program{Host: h, Name: name, Args: args}
		}
		return []program{frr("zebra"), frr("bgpd"), frr("bfdd")}
	case roleBIRD:
		return []program{{Host: h, Name: "bird", Args: []string{"/usr/sbin/bird", "-f", "-c", "/etc/bird/bird.conf", "-s", "/run/bird/bird.ctl"}}}
	default:
		return nil
	}
}
