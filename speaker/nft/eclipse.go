package nft

import "slices"

// eclipse tells whether a Service's frontend would hide the node port of
// another: anybody may write a node's address into a Service, but a node port
// was given out by the API server. Packets meet addresses before node ports.
func (st *state) eclipse(k frontKey, owner string) bool {
	if !st.onNodePorts(k) {
		return false
	}
	other, taken := st.owners[k.nodePort()]
	return taken && other != owner
}

// onNodePorts tells whether node ports answer on a frontend's address.
func (st *state) onNodePorts(k frontKey) bool {
	return !k.isNodePort() && slices.Contains(st.static.NodePortAddresses, k.addr)
}

// nodePort is the key of the node port of that number.
func (k frontKey) nodePort() frontKey {
	k.addr = k.family().unspecified()
	return k
}

// behind are the frontends of addresses that what happens to these node ports
// may hide or show, without those that are among them.
func (st *state) behind(keys []frontKey) []frontKey {
	var out []frontKey
	for _, k := range keys {
		if !k.isNodePort() {
			continue
		}
		for _, a := range st.static.NodePortAddresses {
			at := frontKey{addr: a, proto: k.proto, port: k.port}
			if _, owned := st.owners[at]; owned && familyOf(a) == k.family() && !slices.Contains(keys, at) {
				out = append(out, at)
			}
		}
	}
	slices.SortFunc(out, func(a, b frontKey) int { return a.addr.Compare(b.addr) })
	return slices.Compact(out)
}

// reveal settles anew which frontends are hidden when other addresses answer on node ports.
func (st *state) reveal(change func()) {
	var all []frontKey
	before := st.static.NodePortAddresses
	for k := range st.owners {
		if !k.isNodePort() {
			all = append(all, k)
		}
	}
	change()
	for _, k := range all {
		if slices.Contains(before, k.addr) == st.onNodePorts(k) {
			continue
		}
		hidden := st.eclipsed[k]
		owner := st.owners[k]
		if now := st.eclipse(k, owner); now != hidden {
			p := st.services[owner]
			for _, e := range st.frontElements(p, *p.find(k)) {
				st.plan.events = append(st.plan.events, event{e, now})
			}
			delete(st.eclipsed, k)
			if now {
				st.eclipsed[k] = true
			}
		}
	}
}
