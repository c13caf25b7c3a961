package rpc

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	nanonet "coinop.dev/engine/lattice"
)

// Vendor is what version says of the node.
const Vendor = "coinop"

func (c *call) version() (*object, error) {
	network := c.s.Node.Network()
	return new(object).put("rpc_version", "1").put("store_version", "1").put("protocol_version", lattice.ProtocolUsing).
		put("node_vendor", Vendor).put("store_vendor", Vendor).put("network", network.Name).
		put("network_identifier", network.Genesis.Hash()).put("build_info", Vendor), nil
}

func (c *call) uptime() (*object, error) {
	return new(object).put("seconds", uint64(time.Since(c.s.began)/time.Second)), nil
}

func (c *call) nodeID() (*object, error) {
	id := c.s.Node.ID()
	return new(object).put("public", id.Hex()).put("as_account", id).put("node_id", id.Node()), nil
}

// address is an address as Nano writes it: IPv4 as IPv6.
func address(at netip.AddrPort) string {
	if at.Addr().Is4() {
		return "[::ffff:" + at.Addr().String() + "]:" + strconv.Itoa(int(at.Port()))
	}
	return at.String()
}

func (c *call) peers() (*object, error) {
	list := c.s.Node.Peers()
	slices.SortFunc(list, func(a, b nanonet.Peer) int { return a.Remote.Compare(b.Remote) })
	found := new(object)
	for _, p := range list {
		if !c.flag("peer_details", false) {
			found.put(address(p.Remote), p.Version)
			continue
		}
		at := p.At
		if !at.IsValid() {
			at = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
		}
		found.put(address(p.Remote), new(object).put("protocol_version", p.Version).put("node_id", p.ID.Node()).
			put("type", "tcp").put("peering", address(at)))
	}
	return new(object).put("peers", found), nil
}

// putTelemetry puts what a node says of itself.
func (o *object) putTelemetry(t *lattice.Telemetry) *object {
	return o.put("block_count", t.Blocks).put("cemented_count", t.Cemented).put("unchecked_count", t.Unchecked).
		put("account_count", t.Accounts).put("bandwidth_cap", t.BandwidthCap).put("peer_count", t.Peers).
		put("protocol_version", t.Protocol).put("uptime", t.Uptime).put("genesis_block", t.Genesis).
		put("major_version", t.Major).put("minor_version", t.Minor).put("patch_version", t.Patch).
		put("pre_release_version", t.Pre).put("maker", t.Maker).put("timestamp", t.Timestamp).
		put("active_difficulty", hex16(t.ActiveDifficulty)).put("node_id", t.Node.Node()).put("signature", upper(t.Signature[:]))
}

func (o *object) putAddress(at netip.AddrPort) *object {
	host, port, err := net.SplitHostPort(address(at))
	if err != nil {
		host, port = "::", "0"
	}
	return o.put("address", host).put("port", port)
}

// remotes is where peers are, by name.
func (s *Server) remotes() map[string]netip.AddrPort {
	found := map[string]netip.AddrPort{}
	for _, p := range s.Node.Peers() {
		found[p.Name] = p.Remote
	}
	return found
}

// telemetry is this node's; with raw that of its peers, with an address and a port
// that of one of them.
func (c *call) telemetry() (*object, error) {
	remotes := c.s.remotes()
	host, one := c.optional("address")
	port, _ := c.optional("port")
	switch {
	case one:
		ip, err := netip.ParseAddr(host)
		n, ok := number(port)
		if err != nil || !ok || n > 1<<16-1 {
			return nil, peerNotFound
		}
		want := netip.AddrPortFrom(ip.Unmap(), uint16(n))
		return c.look(func(n *node.Node, o *object) error {
			for _, p := range n.PeerList() {
				if p.Telemetry != nil && remotes[p.Name] == want {
					o.putTelemetry(p.Telemetry)
					return nil
				}
			}
			return peerNotFound
		})
	case c.flag("raw", false):
		return c.look(func(n *node.Node, o *object) error {
			var metrics list
			for _, p := range n.PeerList() {
				if p.Telemetry != nil {
					metrics = append(metrics, new(object).putTelemetry(p.Telemetry).putAddress(remotes[p.Name]))
				}
			}
			o.put("metrics", metrics)
			return nil
		})
	}
	return c.look(func(n *node.Node, o *object) error {
		t := n.Telemetry()
		o.putTelemetry(&t)
		return nil
	})
}

// availableSupply is what neither the genesis account holds nor the burn account
// was sent.
func (c *call) availableSupply() (*object, error) {
	network := c.s.Node.Network()
	return c.look(func(n *node.Node, o *object) error {
		genesis, _ := sums(n, network.Genesis.Account, false)
		_, burnt := sums(n, lattice.Burn, false)
		left, _ := network.Supply().Sub(genesis)
		left, _ = left.Sub(burnt)
		o.put("available", left)
		return nil
	})
}

// certificate is an action of ours: the final votes that show a cemented block to
// whoever knows the weights, and with weights the table that they are checked by,
// as lattice.DecodeCertificate and DecodeWeights read them.
func (c *call) certificate() (*object, error) {
	h := c.hash("hash")
	var s, previous node.Stored
	var table lattice.Weights
	if _, err := c.look(func(n *node.Node, _ *object) error {
		var known bool
		if s, known = n.Block(h); !known {
			return blockNotFound
		}
		if previous, known = n.Block(s.Previous); !known && !s.Previous.IsZero() {
			return blockNotFound
		}
		table = n.Table()
		return nil
	}); err != nil {
		return nil, err
	}
	if !s.Confirmed {
		return nil, notCemented
	}
	proof, err := c.s.Node.Certify(c.ctx, h)
	if err != nil {
		return nil, err
	}
	digest := table.Digest()
	o := new(object).put("extension", Vendor).put("hash", h).put("block", contents(&s.Block))
	if !s.Previous.IsZero() {
		o.put("previous", contents(&previous.Block))
	}
	o.put("certificate", hex.EncodeToString(proof.Append(nil))).put("weights_digest", hex.EncodeToString(digest[:]))
	if c.flag("weights", false) {
		o.put("weights", hex.EncodeToString(table.Append(nil)))
	}
	return o, nil
}

// votesOf lists votes, the same each time.
func votesOf(votes map[lattice.Key]node.Ballot) (found list) {
	reps := make([]lattice.Key, 0, len(votes))
	for rep := range votes {
		reps = append(reps, rep)
	}
	slices.SortFunc(reps, func(a, b lattice.Key) int { return bytes.Compare(a[:], b[:]) })
	for _, rep := range reps {
		v := votes[rep]
		found = append(found, new(object).put("representative", rep).put("timestamp", v.Timestamp).put("hash", v.Hash).put("weight", v.Weight))
	}
	return found
}
