package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// debianPackages are the programs that Kubernetes' suite calls inside its pods. Nothing of them is configured: the image
// is unpacked, not installed.
var debianPackages = []string{
	"bash", "dash", "coreutils", "findutils", "grep", "sed", "mawk", "libc-bin", "procps", "usr-is-merged",
	"curl", "wget", "netcat-openbsd", "bind9-dnsutils", "iproute2", "iputils-ping", "iperf", "conntrack", "hostname",
}

// debianEntries downloads packages with all they depend on, from where this machine has its own, and returns what
// they hold as the content of a layer. What people read is left out.
func debianEntries(ctx context.Context, packages []string) ([]entry, error) {
	dir, err := os.MkdirTemp("", "fairlead-debian-")
	if err != nil {
		return nil, fmt.Errorf("download packages: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := download(ctx, dir, packages); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(errors.New("download packages: none came"), err)
	}
	entries := map[string]entry{}
	for _, file := range files {
		if err := unpack(ctx, file, entries); err != nil {
			return nil, err
		}
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		entries["/"+link] = entry{Path: "/" + link, Link: "usr/" + link}
	}
	list := make([]entry, 0, len(entries))
	for _, e := range entries {
		list = append(list, e)
	}
	return list, nil
}

// download puts the packages and what they depend on into a folder, as if nothing were installed.
func download(ctx context.Context, dir string, packages []string) error {
	status := filepath.Join(dir, "status")
	if err := writeFile(status, nil); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "partial"), 0o755); err != nil {
		return fmt.Errorf("download packages: %w", err)
	}
	if err := apt(ctx, "update"); err != nil {
		return err
	}
	args := []string{
		"-o", "Dir::State::status=" + status, "-o", "Dir::Cache::archives=" + dir, "-o", "Debug::NoLocking=1",
		"-o", "APT::Sandbox::User=root", "--download-only", "--no-install-recommends", "-y", "install",
	}
	return apt(ctx, append(args, packages...)...)
}

// unpack adds the files of one package.
func unpack(ctx context.Context, file string, to map[string]entry) (err error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(file), err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(file), err)
	}
	err = readLayer(tar.NewReader(out), to)
	_, rest := io.Copy(io.Discard, out)
	if err := errors.Join(err, rest, cmd.Wait()); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(file), err)
	}
	return nil
}

// readLayer adds what an archive holds, in the places where a merged /usr has it.
func readLayer(r *tar.Reader, to map[string]entry) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := merged(h.Name)
		if unread(path) {
			continue
		}
		switch h.Typeflag {
		case tar.TypeReg:
			content, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			to[path] = entry{Path: path, Content: content}
		case tar.TypeSymlink:
			to[path] = entry{Path: path, Link: h.Linkname}
		case tar.TypeLink:
			to[path] = entry{Path: path, Content: to[merged(h.Linkname)].Content}
		}
	}
}

// merged is the path of a package's file below /usr, if it belongs there.
func merged(name string) string {
	path := filepath.Join("/", name)
	for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
		if strings.HasPrefix(path, dir) {
			return "/usr" + path
		}
	}
	return path
}

// unread tells whether a file is only for people.
func unread(path string) bool {
	return slices.ContainsFunc([]string{"doc", "man", "info", "locale", "bash-completion", "lintian", "icu"}, func(dir string) bool {
		return strings.HasPrefix(path, "/usr/share/"+dir+"/")
	})
}
