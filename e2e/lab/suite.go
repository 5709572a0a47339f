package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Kubernetes' own end-to-end suite: its binaries and the images that its pods run. They are made when it is asked for.
// The images carry the suite's tags below a name of the lab's own, because they are not what the project publishes.
const (
	suiteImages    = "fairlead.dev/suite"
	agnhostVersion = "2.63.0"
	busyboxVersion = "1.37.0-1"
	pauseVersion   = "3.10.2"
	issue74839     = "regression-issue-74839"
	issueVersion   = "1.4"
	glibcVersion   = "2.0.0"
	// suiteRecipe changes when the way of making the images does, so that old ones are not taken for new ones.
	suiteRecipe = "suite-2"
)

// suiteTargets lists the binaries of the suite.
func suiteTargets() []target {
	return []target{
		{"e2e.test", "e2e/kubernetes", []string{"test", "-c", "-trimpath", "-ldflags", linkFlags(), "-o", "./", "k8s.io/kubernetes/test/e2e"}},
		kubernetesTarget("ginkgo", "github.com/onsi/ginkgo/v2/ginkgo"),
		kubernetesTarget(issue74839, "k8s.io/kubernetes/test/images/"+issue74839),
	}
}

// repoList tells the suite where its images are: the content of the file that KUBE_TEST_REPO_LIST names.
const repoList = "promoterE2eRegistry: " + suiteImages + "\ngcRegistry: " + suiteImages + "\n"

// suiteSpecs says what the suite's images are made of. What Debian gives is for those that have to look
// like a whole system.
func suiteSpecs(ctx context.Context, l lab, bin string, debian []entry) ([]imageSpec, error) {
	certificate, err := l.suiteFile(ctx, "test/images/agnhost/porter")
	if err != nil {
		return nil, err
	}
	applets, err := appletLinks(ctx)
	if err != nil {
		return nil, err
	}
	return []imageSpec{
		{
			Name: suiteImages + "/agnhost:" + agnhostVersion, Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"},
			Files: map[string]string{
				"/agnhost": filepath.Join(bin, "agnhost"), "/coredns": filepath.Join(bin, "coredns"),
				"/localhost.crt": filepath.Join(certificate, "localhost.crt"), "/localhost.key": filepath.Join(certificate, "localhost.key"),
			},
			Links: map[string]string{
				"/agnhost-2": "agnhost", "/usr/bin/sh": "dash", "/usr/bin/nc": "nc.openbsd", "/usr/bin/awk": "mawk",
				"/usr/local/bin/iperf": "/usr/bin/iperf",
			},
			Entries: append(slices.Clone(debian),
				entry{Path: "/uploads", Dir: true},
				entry{Path: "/etc/passwd", Content: []byte("root:x:0:0:root:/root:/bin/bash\nuser-defined-in-image:x:1000:1000::/:/bin/sh\n")},
				entry{Path: "/etc/group", Content: []byte("root:x:0:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n")},
			),
		},
		{
			Name: suiteImages + "/glibc-dns-testing:" + glibcVersion, Cmd: []string{"bash"},
			Files: map[string]string{"/coredns": filepath.Join(bin, "coredns")}, Links: map[string]string{"/usr/bin/sh": "dash"}, Entries: debian,
		},
		{Name: suiteImages + "/busybox:" + busyboxVersion, Cmd: []string{"sh"}, Files: map[string]string{"/bin/busybox": "/bin/busybox"}, Links: applets},
		{Name: suiteImages + "/pause:" + pauseVersion, Entrypoint: []string{"/pause"}, Files: map[string]string{"/pause": filepath.Join(bin, "pause")}},
		{
			Name: suiteImages + "/" + issue74839 + ":" + issueVersion, Entrypoint: []string{"/" + issue74839},
			Files: map[string]string{"/" + issue74839: filepath.Join(bin, issue74839)},
		},
	}, nil
}

// suiteFile finds a file of the Kubernetes module.
func (l lab) suiteFile(ctx context.Context, name string) (string, error) {
	cmd := goCommand(ctx, "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	cmd.Dir = filepath.Join(l.checkout, "e2e", "kubernetes")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find the source of Kubernetes: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), name), nil
}

// buildSuite makes the suite's binaries and images that are not in the cache yet. It returns the folder of the binaries and the
// archives of the images.
func (l lab) buildSuite(ctx context.Context, p *progress) (bin string, images []string, err error) {
	if _, err := l.buildBinaries(ctx, p, targets()); err != nil {
		return "", nil, err
	}
	if bin, err = l.buildBinaries(ctx, p, suiteTargets()); err != nil {
		return "", nil, err
	}
	dir := filepath.Join(filepath.Dir(bin), "images", suiteRecipe)
	complete := filepath.Join(dir, "complete")
	if !exists(complete) {
		err := p.step("make the suite's images", func() error { return l.writeSuiteImages(ctx, bin, dir) })
		if err != nil {
			return "", nil, err
		}
		if err := writeFile(complete, nil); err != nil {
			return "", nil, err
		}
	}
	images, err = filepath.Glob(filepath.Join(dir, "*.tar"))
	return bin, images, err
}

func (l lab) writeSuiteImages(ctx context.Context, bin, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	debian, err := debianEntries(ctx, debianPackages)
	if err != nil {
		return err
	}
	specs, err := suiteSpecs(ctx, l, bin, debian)
	if err != nil {
		return err
	}
	for _, s := range specs {
		base, _, _ := strings.Cut(filepath.Base(s.Name), ":")
		if err := writeImage(s, filepath.Join(dir, base+".tar")); err != nil {
			return err
		}
	}
	return nil
}
