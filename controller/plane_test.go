package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// plane is a real API server with its etcd on the loopback interface, and nothing else: no node, no other controller.
type plane struct {
	dir    string
	bin    string // where the Kubernetes programs are
	url    string
	admin  client.Client
	config *rest.Config // of the administrator
}

const (
	adminToken      = "token-of-the-administrator"
	controllerToken = "token-of-the-controller"
	testNamespace   = "fairlead-system"
)

// startPlane starts an API server with Fairlead's definitions and roles; it ends with the test.
func startPlane(t *testing.T) *plane {
	t.Helper()
	if testing.Short() {
		t.Skip("starts an API server: not in -short")
	}
	p := &plane{dir: t.TempDir(), bin: kubernetesBinaries(t)}
	etcd, peer, port := freePort(t), freePort(t), freePort(t)
	etcdURL := fmt.Sprintf("http://127.0.0.1:%d", etcd)
	peerURL := fmt.Sprintf("http://127.0.0.1:%d", peer)
	p.start(t, "etcd", "--data-dir", filepath.Join(p.dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL,
		"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL, "--initial-cluster", "default="+peerURL)
	key := p.serviceAccountKey(t)
	tokens := p.write(t, "tokens.csv", adminToken+",admin,admin,system:masters\n"+controllerToken+",controller,controller\n")
	p.start(t, "kube-apiserver", "--etcd-servers", etcdURL, "--bind-address=127.0.0.1", "--advertise-address=192.0.2.1",
		"--endpoint-reconciler-type=none", "--secure-port", fmt.Sprint(port), "--cert-dir", filepath.Join(p.dir, "certs"),
		"--service-cluster-ip-range=10.96.0.0/16,fd96::/112", "--authorization-mode=RBAC", "--token-auth-file", tokens,
		"--service-account-issuer=https://test", "-v=0", "--service-account-key-file", key, "--service-account-signing-key-file", key)
	p.url = fmt.Sprintf("https://127.0.0.1:%d", port)
	p.config = p.as(adminToken)
	p.admin = p.client(t)
	p.install(t)
	return p
}

// kubernetesBinaries returns the folder of the programs the lab builds.
func kubernetesBinaries(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("FAIRLEAD_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(user, "fairlead")
	}
	found, err := filepath.Glob(filepath.Join(cache, "kubernetes-*", "bin", "kube-apiserver"))
	if err != nil || len(found) == 0 {
		t.Fatalf("there is no kube-apiserver in %s: build it with go run ./e2e/lab build", cache)
	}
	return filepath.Dir(found[len(found)-1])
}

// freePort returns a port that nobody listens on, of those that the kernel gives to no outgoing connection: until the
// program that is to listen there does, its own and other programs' connections would else take the port away.
func freePort(t *testing.T) int {
	t.Helper()
	const first, count = 20000, 12000
	for range 100 {
		port := first + mathrand.IntN(count)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatalf("no free port among %d", count)
	return 0
}

func (p *plane) write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (p *plane) serviceAccountKey(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return p.write(t, "service-account.key", string(pem.EncodeToMemory(block)))
}

// start runs a program until the test ends; it dies with the test, too.
func (p *plane) start(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	return launch(t, filepath.Join(p.bin, name), filepath.Join(p.dir, name+".log"), nil, args...)
}

func launch(t *testing.T, program, logFile string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// The kernel sends that signal when the thread that started the program ends, so this thread has to stay.
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		<-ended
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		close(ended)
		log.Close()
		if t.Failed() {
			t.Logf("last words of %s:\n%s", filepath.Base(program), lastLines(logFile, 20))
		}
	})
	return cmd
}

func lastLines(file string, n int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *plane) as(token string) *rest.Config {
	return &rest.Config{Host: p.url, BearerToken: token, QPS: -1, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

func (p *plane) client(t *testing.T) client.Client {
	t.Helper()
	scheme := apiruntime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := v1beta1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var c client.Client
	eventually(t, 3*time.Minute, func() error {
		var err error
		if c, err = client.New(p.config, client.Options{Scheme: scheme}); err != nil {
			return err
		}
		return c.Get(context.Background(), client.ObjectKey{Name: "default"}, &corev1.Namespace{})
	})
	return c
}

// install makes the definitions, and binds the generated roles to the controller's user: it may do no more than those
// say.
func (p *plane) install(t *testing.T) {
	t.Helper()
	p.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: testNamespace}})
	files, err := fs.Glob(config.CRDs, "crd/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := config.CRDs.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p.createYAML(t, data)
	}
	roles, err := os.ReadFile("../config/rbac/controller_role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range bytes.Split(roles, []byte("\n---\n")) {
		p.createYAML(t, document)
	}
	subjects := []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "controller"}}
	p.create(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "controller"}, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "fairlead-controller"},
	})
	p.create(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: "controller"}, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "fairlead-controller"},
	})
	eventually(t, time.Minute, func() error { return p.served(len(files)) })
}

// served tells whether the API server tells clients of so many of our kinds: it learns them one after the other, and a
// controller that misses one ends.
func (p *plane) served(kinds int) error {
	asker, err := discovery.NewDiscoveryClientForConfig(p.config)
	if err != nil {
		return err
	}
	_, lists, err := asker.ServerGroupsAndResources()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, list := range lists {
		for _, resource := range list.APIResources {
			if list.GroupVersion == v1beta1.GroupVersion.String() {
				known[resource.Kind] = true
			}
		}
	}
	if len(known) < kinds {
		return fmt.Errorf("%d of %d kinds are served", len(known), kinds)
	}
	return nil
}

func (p *plane) create(t *testing.T, object client.Object) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		object.SetResourceVersion("")
		if err := p.admin.Create(context.Background(), object); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		return nil
	})
}

func (p *plane) createYAML(t *testing.T, data []byte) {
	t.Helper()
	var object unstructured.Unstructured
	if err := yaml.Unmarshal(data, &object.Object); err != nil {
		t.Fatal(err)
	}
	p.create(t, &object)
}

// insist makes a request again that the API server was too busy for: whether a change was made nobody knows.
func insist(request func() error) error {
	for {
		err := request()
		if !apierrors.IsTimeout(err) && !apierrors.IsServerTimeout(err) && !apierrors.IsTooManyRequests(err) {
			return err
		}
	}
}

// kubeconfig writes a kubeconfig for a token.
func (p *plane) kubeconfig(t *testing.T, name, token string) string {
	t.Helper()
	return p.write(t, name+".kubeconfig", fmt.Sprintf(`
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: test, user: {token: %q}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`, p.url, token))
}

// kubectl runs kubectl as the administrator and returns what it prints.
func (p *plane) kubectl(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(filepath.Join(p.bin, "kubectl"), append([]string{"--kubeconfig", p.kubeconfig(t, "admin", adminToken)}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// buildController builds the program under test.
func (p *plane) buildController(t *testing.T) string {
	t.Helper()
	program := filepath.Join(p.dir, "controller")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the controller: %v\n%s", err, out)
	}
	return program
}

// run starts the controller with the rights of its role only.
func (p *plane) run(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	kubeconfig := p.kubeconfig(t, "controller", controllerToken)
	args = append([]string{"--namespace=" + testNamespace, "--metrics-bind-address=0", "--health-probe-bind-address=0"}, args...)
	return launch(t, program, filepath.Join(p.dir, "controller.log"), []string{"KUBECONFIG=" + kubeconfig}, args...)
}

// eventually calls a function until it returns nil, and fails with its last error.
func eventually(t *testing.T, patience time.Duration, f func() error) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("after %s still: %v", patience, err)
		case <-tick.C:
		}
	}
}
