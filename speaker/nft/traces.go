package nft

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What kube-proxy makes in each of its modes that use nftables: a table of its own, or
// through the iptables command a chain in the table that both share.
const (
	kubeProxyTable = "kube-proxy"
	iptablesTable  = "nat"
	kubeProxyChain = "KUBE-SERVICES"
)

// KubeProxyTraces tells whether rules of kube-proxy are in the kernel's nftables, made by
// a live one or left behind. It reads only, a few messages however many rules there are.
// Rules of iptables' legacy backend cannot be seen.
func KubeProxyTraces() (bool, error) {
	w, err := dial()
	if err != nil {
		return false, err
	}
	found := false
	for _, f := range families {
		err = errors.Join(err,
			w.find(f, unix.NFT_MSG_GETTABLE, &found, map[uint16]string{unix.NFTA_TABLE_NAME: kubeProxyTable}),
			w.find(f, unix.NFT_MSG_GETCHAIN, &found, map[uint16]string{
				unix.NFTA_CHAIN_TABLE: iptablesTable, unix.NFTA_CHAIN_NAME: kubeProxyChain,
			}))
	}
	if err = errors.Join(err, w.close()); err != nil {
		return false, fmt.Errorf("look for kube-proxy's rules: %w", err)
	}
	return found, nil
}

// find sets found if there is the object of those names.
func (w *wire) find(f family, typ uint16, found *bool, names map[uint16]string) error {
	fill := func(b *buffer) {
		for attribute, name := range names {
			b.str(attribute, name)
		}
	}
	err := w.ask(nftMessage(typ), unix.NLM_F_ACK, f.proto(), fill, func(uint16, []byte) { *found = true })
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
