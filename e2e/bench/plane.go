package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/config"
)

// plane is an API server with its etcd, unmodified, and nobody else: what controllers would write, this program does.
type plane struct {
	dir    string
	bin    string // where the Kubernetes programs are
	procs  []*process
	client kubernetes.Interface
}

const (
	apiPort   = 6443
	nodeName  = "node1"
	namespace = "fairlead-system"
	token     = "token-of-the-administrator"
)

// startPlane starts both programs and makes the Node and Fairlead's definitions.
func startPlane(ctx context.Context) (*plane, error) {
	bin, err := kubernetesPrograms()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "fairlead-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	p := &plane{dir: dir, bin: bin}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *plane) start(ctx context.Context) error {
	if err := p.launch("etcd", "--data-dir", p.path("etcd"), "--unsafe-no-fsync", "--log-level=warn", "--quota-backend-bytes=8589934592"); err != nil {
		return err
	}
	key, err := p.signingKey()
	if err != nil {
		return err
	}
	tokens := p.path("tokens.csv")
	if err := os.WriteFile(tokens, []byte(token+",admin,admin,system:masters\n"), 0o600); err != nil {
		return fmt.Errorf("write the tokens: %w", err)
	}
	err = p.launch("kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--bind-address=0.0.0.0", "--advertise-address=192.0.2.1",
		"--endpoint-reconciler-type=none", fmt.Sprint("--secure-port=", apiPort), "--cert-dir", p.path("certs"),
		"--service-cluster-ip-range="+serviceCIDR, "--authorization-mode=AlwaysAllow", "--token-auth-file", tokens,
		"--enable-priority-and-fairness=false", "--max-requests-inflight=0", "--max-mutating-requests-inflight=0",
		"--service-account-issuer=https://bench", "--service-account-key-file", key, "--service-account-signing-key-file", key)
	if err != nil {
		return err
	}
	config := p.config()
	if p.client, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	err = eventually(ctx, time.Minute, "the API server answers", func() error {
		_, err := p.client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{})
		return err
	})
	if err != nil {
		return err
	}
	return p.furnish(ctx, config)
}

// config is the administrator's, in protocol buffers: this program should not be what is measured.
func (p *plane) config() *rest.Config {
	return &rest.Config{
		Host: fmt.Sprintf("https://127.0.0.1:%d", apiPort), BearerToken: token, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true},
		ContentConfig:   rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf", AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json"},
	}
}

func (p *plane) path(name string) string { return filepath.Join(p.dir, name) }

func (p *plane) launch(name string, args ...string) error {
	proc, err := launch(0, filepath.Join(p.bin, name), p.path(name+".log"), nil, args...)
	if err != nil {
		return err
	}
	p.procs = append(p.procs, proc)
	return nil
}

func (p *plane) stop() error {
	var err error
	for i := len(p.procs) - 1; i >= 0; i-- {
		err = errors.Join(err, p.procs[i].kill())
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// kubernetesPrograms returns the folder of the programs that the lab builds.
func kubernetesPrograms() (string, error) {
	cache := os.Getenv("FAIRLEAD_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache folder (set FAIRLEAD_CACHE): %w", err)
		}
		cache = filepath.Join(user, "fairlead")
	}
	found, err := filepath.Glob(filepath.Join(cache, "kubernetes-*", "bin", "kube-proxy"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("there is no kube-proxy in %s: build it with go run ./e2e/lab build", cache)
	}
	return filepath.Dir(found[len(found)-1]), nil
}

func (p *plane) signingKey() (string, error) {
	const bits = 2048
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	path := p.path("service-account.key")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", fmt.Errorf("write a key: %w", err)
	}
	return path, nil
}

// furnish makes the Node, as a kubelet would, and Fairlead's definitions.
func (p *plane) furnish(ctx context.Context, config *rest.Config) error {
	create := metav1.CreateOptions{}
	core := p.client.CoreV1()
	for _, name := range []string{namespace, probeNamespace, crowdNamespace} {
		if _, err := core.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, create); err != nil {
			return fmt.Errorf("create namespace %s: %w", name, err)
		}
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName, Labels: map[string]string{corev1.LabelTopologyZone: "zone1"}}}
	node.Spec.PodCIDR, node.Spec.PodCIDRs = podCIDR, []string{podCIDR}
	made, err := core.Nodes().Create(ctx, node, create)
	if err != nil {
		return fmt.Errorf("create node %s: %w", nodeName, err)
	}
	made.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddress}}
	made.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := core.Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update node %s: %w", nodeName, err)
	}
	return p.define(ctx, config)
}

// define creates Fairlead's definitions and waits until they are served.
func (p *plane) define(ctx context.Context, admin *rest.Config) error {
	plain := rest.CopyConfig(admin)
	plain.ContentConfig = rest.ContentConfig{}
	objects, err := dynamic.NewForConfig(plain)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	files, err := fs.Glob(config.CRDs, "crd/*.yaml")
	if err != nil {
		return fmt.Errorf("find the definitions: %w", err)
	}
	definitions := objects.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, file := range files {
		data, err := config.CRDs.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		var definition unstructured.Unstructured
		if err := yaml.Unmarshal(data, &definition.Object); err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		if _, err := definitions.Create(ctx, &definition, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create %s: %w", file, err)
		}
	}
	return eventually(ctx, time.Minute, "Fairlead's kinds are served", func() error {
		// An API server needs a moment for a kind when it is first asked for it: no start of a speaker shall be measured with it.
		for _, file := range files {
			_, kind, _ := strings.Cut(strings.TrimSuffix(file, ".yaml"), "_")
			resource := objects.Resource(schema.GroupVersionResource{Group: "fairlead.dev", Version: "v1beta1", Resource: kind})
			if _, err := resource.List(ctx, metav1.ListOptions{}); err != nil {
				return fmt.Errorf("list %s: %w", kind, err)
			}
		}
		return nil
	})
}

// eventually calls a function until it returns nil.
func eventually(ctx context.Context, patience time.Duration, what string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, err)
		case <-tick.C:
		}
	}
}
