package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

func TestCertificatesAreValidForTheirServers(t *testing.T) {
	l := lab{dir: t.TempDir()}
	if err := l.writePKI(time.Now(), 12345); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(l.path("hosts", "control", "pki", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(ca)
	for file, names := range map[string][]string{
		"control/pki/kube-apiserver.crt": {"127.0.0.1", "172.30.0.10", "fd30::10", "10.96.0.1", "kubernetes.default.svc"},
		"node2/pki/kubelet.crt":          {"node2", "172.30.0.12", "fd30::12"},
	} {
		cert := readCert(t, l.path("hosts", file))
		for _, name := range names {
			if _, err := cert.Verify(x509.VerifyOptions{DNSName: name, Roots: pool}); err != nil {
				t.Errorf("%s for %s: %v", file, name, err)
			}
		}
	}
	if cert := readCert(t, l.path("hosts", "node2", "pki", "kubelet.crt")); cert.Subject.CommonName != "system:node:node2" {
		t.Errorf("want system:node:node2, got %s", cert.Subject.CommonName)
	}
	if _, err := os.Stat(l.path("hosts", "node2", "pki", "ca.key")); err == nil {
		t.Error("a node holds the authority's key")
	}
	text, err := os.ReadFile(l.kubeconfig())
	if err != nil || !strings.Contains(string(text), "server: https://127.0.0.1:12345\n") {
		t.Errorf("the kubeconfig does not name the forwarder: %v\n%s", err, text)
	}
}

func readCert(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// What the lab writes must be what the programs read: YAML and JSON that parse.
func TestConfigurationsParse(t *testing.T) {
	for _, h := range nodes() {
		var kubelet struct{ CgroupRoot, ResolvConf string }
		if err := yaml.Unmarshal([]byte(kubeletConfig(h)), &kubelet); err != nil {
			t.Fatal(err)
		}
		if kubelet.CgroupRoot != "/"+labName()+"/"+h.Name {
			t.Errorf("want a control group of its own for %s, got %s", h.Name, kubelet.CgroupRoot)
		}
		cni, err := cniConfig(h)
		if err != nil || !json.Valid([]byte(cni)) {
			t.Errorf("pod network of %s: %v\n%s", h.Name, err, cni)
		}
	}
	for _, doc := range append(strings.Split(nodeManifest(), "---\n"), strings.Split(dnsManifest, "---\n")...) {
		var object struct{ Kind string }
		if err := yaml.Unmarshal([]byte(doc), &object); err != nil || object.Kind == "" {
			t.Errorf("no object: %v\n%s", err, doc)
		}
	}
}

func TestMissingPackages(t *testing.T) {
	there := map[string]bool{"/usr/bin/containerd": true, "/usr/sbin/runc": true}
	list := []need{
		{"runc", "/usr/sbin/runc"}, {"frr", "/usr/lib/frr/bgpd"}, {"bird2", "/usr/sbin/bird"}, {"containerd", "/usr/bin/containerd"},
	}
	got := missing(list, func(f string) bool { return there[f] })
	if diff := cmp.Diff([]string{"bird2", "frr"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCacheFolderFollowsItsInput(t *testing.T) {
	t.Setenv("FAIRLEAD_CACHE", "/cache")
	l := lab{checkout: t.TempDir()}
	for _, name := range cacheInputs() {
		if err := writeFile(filepath.Join(l.checkout, name), []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	first := mustCacheDir(t, l)
	if !strings.HasPrefix(first, "/cache/kubernetes-"+kubernetesVersion+"-") {
		t.Errorf("unexpected cache folder %s", first)
	}
	if again := mustCacheDir(t, l); again != first {
		t.Errorf("the same input gives %s and %s", first, again)
	}
	if err := writeFile(filepath.Join(l.checkout, "e2e/kubernetes/go.mod"), []byte("another")); err != nil {
		t.Fatal(err)
	}
	if other := mustCacheDir(t, l); other == first {
		t.Errorf("another go.mod gives the same folder %s", other)
	}
}

func mustCacheDir(t *testing.T, l lab) string {
	t.Helper()
	dir, err := l.cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
