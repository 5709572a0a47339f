package nft

import (
	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// setID is one of the table's sets and maps. Their number is constant.
type setID uint8

const (
	// Maps that lead a packet to its token.
	frontends          setID = iota // address . protocol . port -> token
	nodeports                       // protocol . port -> token
	shortCircuits                   // as frontends: Local policy, for pods and this node
	shortCircuitsPorts              // as nodeports: Local policy, for pods and this node
	// Maps that lead from the token on.
	classes      // class -> chain
	plainClasses // class -> chain, behind the short circuit
	remembers    // class -> chain that remembers a client's endpoint
	endpoints    // target . slot -> address . port
	affinity     // client . target -> address . port, written by packets
	// Sets that decide about packets.
	nodeportIPs    // addresses that node ports answer on
	serviceIPs     // addresses whose unknown ports are rejected
	serviceCIDRs   // ranges whose unknown addresses are dropped
	echoIPs        // addresses that are pinged
	relays         // addresses that came here in a planned move -> node whose connections they still have, see Relays
	rings          // addresses that routers lead to several nodes -> node that is asked next for a connection, see Relays
	podCIDRs       // who is a pod
	unmasqueraded  // sources that reach ClusterIPs with their own address
	hairpin        // local endpoints: address . address
	allowedSources // frontend . source, for guarded frontends
	setCount
)

// setSpec is all that makes a set what it is.
type setSpec struct {
	name     string
	key      nftables.SetDatatype
	data     nftables.SetDatatype // Name "" for sets
	flags    uint32
	size     uint32
	timeout  uint64  // milliseconds
	fields   []uint8 // lengths of the key's fields, for concatenated intervals only
	userdata []byte
}

// fits tells whether the set could hold an element if it were ours.
func (s setSpec) fits(e element) bool {
	size := int(s.data.Bytes)
	if e.set.isVerdictMap() {
		size = len(e.data)
	}
	return len(e.key) == int(s.key.Bytes) && (len(e.end) == len(e.key) || s.fields == nil) && len(e.data) == size
}

// classesSize has room for all classes, and for each once more while it is replaced. A size makes the kernel take its
// quickest kind of set.
const classesSize = 2 << classBits

// affinitySize bounds what packets can make the kernel remember.
const affinitySize = 1 << 20

func (id setID) String() string { return setNames[id] }

var setNames = [setCount]string{
	"frontends", "nodeports", "short-circuits", "nodeport-short-circuits",
	"classes", "plain-classes", "remember", "endpoints", "affinity",
	"nodeport-ips", "service-ips", "service-cidrs", "echo-ips", "relays", "rings", "pods", "unmasqueraded", "hairpin", "allowed-sources",
}

// isInterval tells whether elements are the bounds of ranges.
func (id setID) isInterval() bool {
	return id == serviceCIDRs || id == podCIDRs || id == unmasqueraded
}

// isBehindToken tells whether packets come to the set by a token that another map gave them.
func (id setID) isBehindToken() bool {
	return id.isVerdictMap() || id == endpoints || id == allowedSources || id == hairpin
}

// comesFirst tells whether new elements are there before a token leads to them.
func (id setID) comesFirst() bool { return id.isVerdictMap() || id == allowedSources }

// isOthers tells whether somebody else than the Table keeps the elements: packets or Relays.
func (id setID) isOthers() bool { return id == affinity || id == relays || id == rings }

func (id setID) isVerdictMap() bool {
	return id == classes || id == plainClasses || id == remembers
}

func (id setID) spec(f family) setSpec {
	addr := f.addrType()
	socket := nftables.MustConcatSetType(addr, nftables.TypeInetProto, nftables.TypeInetService)
	port := nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	backend := nftables.MustConcatSetType(addr, nftables.TypeInetService)
	s := setSpec{name: id.String()}
	switch id {
	case frontends, shortCircuits:
		s.key, s.data = socket, nftables.TypeClassID
	case nodeports, shortCircuitsPorts:
		s.key, s.data = port, nftables.TypeClassID
	case classes, plainClasses, remembers:
		s.key, s.data, s.size = nftables.TypeClassID, nftables.TypeVerdict, classesSize
	case endpoints:
		s.key, s.data = nftables.MustConcatSetType(nftables.TypeClassID, nftables.TypeMark), backend
		s.key.Name, s.userdata = endpointsType, endpointsUserdata(f)
	case affinity:
		s.key, s.data = nftables.MustConcatSetType(addr, nftables.TypeClassID), backend
		s.flags, s.size, s.timeout = unix.NFT_SET_TIMEOUT|unix.NFT_SET_EVAL, affinitySize, affinityDefault
	case hairpin:
		s.key = nftables.MustConcatSetType(addr, addr)
	case allowedSources:
		s.key = nftables.MustConcatSetType(addr, nftables.TypeInetProto, nftables.TypeInetService, addr)
		s.flags, s.fields = unix.NFT_SET_INTERVAL|setConcat, []uint8{uint8(addr.Bytes), 1, 2, uint8(addr.Bytes)}
	case serviceCIDRs, podCIDRs, unmasqueraded:
		s.key, s.flags = addr, unix.NFT_SET_INTERVAL
	case relays, rings:
		s.key, s.data = addr, addr
	case nodeportIPs, serviceIPs, echoIPs, setCount:
		s.key = addr
	}
	if s.data.Name != "" {
		s.flags |= unix.NFT_SET_MAP
	}
	if s.userdata == nil {
		s.userdata = byteorderUserdata(s)
	}
	return s
}

const (
	// setConcat is NFT_SET_CONCAT.
	setConcat = 0x80
	// affinityDefault is Kubernetes' default for session affinity. Every rule
	// that writes to the map brings its own.
	affinityDefault = 10800 * 1000
	endpointsType   = "meta priority . numgen"
)

// byteorderUserdata tells nft that tokens and classes are in the machine's
// byte order. Without it nft lists them the wrong way round.
func byteorderUserdata(s setSpec) []byte {
	const key, data, host, big = 0, 1, 1, 2
	order := func(name string) uint32 {
		switch name {
		case nftables.TypeClassID.Name:
			return host
		case nftables.TypeIPAddr.Name, nftables.TypeIP6Addr.Name:
			return big
		}
		return 0 // concatenations: each field has its own
	}
	out := userdata.AppendUint32(nil, key, order(s.key.Name))
	return userdata.AppendUint32(out, data, order(s.data.Name))
}

// endpointsUserdata is how nft declares "typeof meta priority . numgen random
// mod 2 : ip daddr . th dport". Without it nft lists the map, but does not
// accept its own listing, and a host that loads a saved ruleset at
// boot would end up with no firewall at all. Measured with nft 1.0.6.
func endpointsUserdata(f family) []byte {
	const (
		u32        = 4
		byteorder  = 0 // of key and data: left to typeof
		keyTypeof  = 3
		dataTypeof = 4
		interval   = 6
	)
	proto, field := byte(0x0c), byte(0x0c)
	if f == v6 {
		proto, field = 0x0d, 0x09
	}
	number := func(typ, v byte) []byte { return []byte{typ, u32, v, 0, 0, 0} }
	nest := func(typ byte, parts ...[]byte) []byte {
		var body []byte
		for _, p := range parts {
			body = append(body, p...)
		}
		return append([]byte{typ, byte(len(body))}, body...)
	}
	expression := func(index, kind byte, parts ...[]byte) []byte {
		return nest(index, number(0, kind), nest(1, parts...))
	}
	const concat, meta, numgen, payload = 0x0d, 0x09, 0x17, 0x07
	key := nest(keyTypeof, number(0, concat), nest(1,
		expression(0, meta, number(0, 2)),
		expression(1, numgen, number(0, 1), number(1, 2), number(2, 0))))
	data := nest(dataTypeof, number(0, concat), nest(1,
		expression(0, payload, number(0, proto), number(1, field)),
		expression(1, payload, number(0, 0x0b), number(1, 2))))
	out := append(number(byteorder, 0), number(byteorder+1, 0)...)
	out = append(append(out, key...), data...)
	return append(out, number(interval, 0)...)
}
