package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"time"
)

// An authority signs the certificates of one lab. It lives as long as the lab does.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// A pair is a certificate and its key, PEM encoded.
type pair struct{ Cert, Key []byte }

// lifetime of the lab's certificates: nobody keeps a lab for longer.
const lifetime = 365 * 24 * time.Hour

func newAuthority(now time.Time) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, fmt.Errorf("make the authority's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fairlead-lab"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, fmt.Errorf("sign the authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, fmt.Errorf("read the authority back: %w", err)
	}
	return authority{cert, key}, nil
}

func (a authority) pair() (pair, error) { return encodePair(a.cert.Raw, a.key) }

// issue signs a certificate for a client and a server of that name. Names that are IP addresses become such.
func (a authority) issue(commonName string, groups []string, names ...string) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, fmt.Errorf("make the key of %s: %w", commonName, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return pair{}, fmt.Errorf("number the certificate of %s: %w", commonName, err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName, Organization: groups},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return pair{}, fmt.Errorf("sign the certificate of %s: %w", commonName, err)
	}
	return encodePair(der, key)
}

func encodePair(der []byte, key *ecdsa.PrivateKey) (pair, error) {
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pair{}, fmt.Errorf("encode a key: %w", err)
	}
	return pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}),
	}, nil
}

// publicKey returns the PEM encoded public key of the authority: the API server checks service account
// tokens with it.
func (a authority) publicKey() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(a.key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode a public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// write stores the pair as dir/name.crt and dir/name.key.
func (p pair) write(dir, name string) error {
	if err := writeFile(filepath.Join(dir, name+".crt"), p.Cert); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, name+".key"), p.Key)
}

// kubeconfig returns a client configuration for the API server at that address.
func (a authority) kubeconfig(server string, client pair) ([]byte, error) {
	self, err := a.pair()
	if err != nil {
		return nil, err
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: lab
contexts:
- name: lab
  context: {cluster: lab, user: lab}
clusters:
- name: lab
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: lab
  user:
    client-certificate-data: %s
    client-key-data: %s
`, server, b64(self.Cert), b64(client.Cert), b64(client.Key)), nil
}

// writePKI makes every certificate and client configuration of a new lab. Each host gets only its own.
func (l lab) writePKI(now time.Time, apiPort int) error {
	a, err := newAuthority(now)
	if err != nil {
		return err
	}
	if err := l.writeControlPKI(a, apiPort); err != nil {
		return err
	}
	self, err := a.pair()
	if err != nil {
		return err
	}
	for _, h := range nodes() {
		dir := filepath.Join(l.hostDir(h), "pki")
		if err := writeFile(filepath.Join(dir, "ca.crt"), self.Cert); err != nil {
			return err
		}
		v4, v6 := h.NICs[0].Subnet.addresses(h.NICs[0].Last)
		kubelet, err := a.issue("system:node:"+h.Name, []string{"system:nodes"}, h.Name, v4.String(), v6.String())
		if err != nil {
			return err
		}
		if err := kubelet.write(dir, "kubelet"); err != nil {
			return err
		}
		if err := a.writeClient(filepath.Join(dir, "kubelet.conf"), apiURL, kubelet); err != nil {
			return err
		}
		if err := a.writeNewClient(filepath.Join(dir, "kube-proxy.conf"), apiURL, "system:kube-proxy"); err != nil {
			return err
		}
	}
	return nil
}

const apiURL = "https://" + apiAddress + ":" + apiPort

func (l lab) writeControlPKI(a authority, apiPort int) error {
	dir := l.path("hosts", "control", "pki")
	self, err := a.pair()
	if err != nil {
		return err
	}
	if err := self.write(dir, "ca"); err != nil {
		return err
	}
	public, err := a.publicKey()
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "tokens.pub"), public); err != nil {
		return err
	}
	_, v6 := lan.addresses(10)
	server, err := a.issue("kube-apiserver", nil, "localhost", "127.0.0.1", "::1", apiAddress, v6.String(), "10.96.0.1", "fd96::1",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
	if err != nil {
		return err
	}
	if err := server.write(dir, "kube-apiserver"); err != nil {
		return err
	}
	admin, err := a.issue("lab-admin", []string{"system:masters"})
	if err != nil {
		return err
	}
	if err := admin.write(dir, "admin"); err != nil {
		return err
	}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		if err := a.writeNewClient(filepath.Join(dir, name+".conf"), apiURL, "system:"+name); err != nil {
			return err
		}
	}
	return a.writeClient(l.kubeconfig(), fmt.Sprintf("https://127.0.0.1:%d", apiPort), admin)
}

func (a authority) writeNewClient(path, server, user string) error {
	client, err := a.issue(user, nil)
	if err != nil {
		return err
	}
	return a.writeClient(path, server, client)
}

func (a authority) writeClient(path, server string, client pair) error {
	text, err := a.kubeconfig(server, client)
	if err != nil {
		return err
	}
	return writeFile(path, text)
}
