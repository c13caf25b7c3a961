package rest

import (
	"math"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
)

type object = map[string]any

// healthy reports whether what the node says is new.
func (s *Server) healthy(i *node.Info) bool {
	speaks := map[string]bool{}
	for _, p := range i.Peers {
		speaks[p.Name] = p.Speaks
	}
	linked := false
	for _, p := range s.Node.Peers() {
		linked = linked || p.Link != 0 && speaks[p.Key.PeerName()]
	}
	age := s.Node.Now() - step.Time(i.Latest.Time)*step.Second
	alone := len(s.Node.Config.Peers) == 0 // and wants to be
	return i.Synced && i.Halted == nil && i.Latest.Index > 0 && age < step.Time(MaxAge.Milliseconds()) && (linked || alone)
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if s.Take(network(r), time.Now()) > 0 {
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	i, err := s.Node.Info(r.Context())
	if err != nil || !s.healthy(&i) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (c *call) routes() (any, error) {
	return object{"routes": []string{"core/v2", "indexer/v1", "coinop/v1"}}, nil
}

func (c *call) info() (any, error) {
	var i node.Info
	if err := c.look(func(n *node.Node) { i = n.Info() }); err != nil {
		return nil, err
	}
	net := c.s.Node.Network()
	latest := object{"index": i.Latest.Index}
	if i.Latest.Index > 0 {
		latest["timestamp"], latest["milestoneId"] = i.Latest.Time, i.Milestone
	}
	features := []string{}
	if c.s.Node.MaxZeros > 0 {
		features = append(features, "pow")
	}
	blocks, confirmed := c.s.pace.of(&i)
	referenced := 0.0
	if blocks > 0 {
		referenced = 100 * confirmed / blocks
	}
	return object{
		"name": "coinop", "version": c.s.Version,
		"status": object{
			"isHealthy": c.s.healthy(&i), "latestMilestone": latest, "confirmedMilestone": latest,
			"pruningIndex": i.Oldest - min(i.Oldest, 1),
		},
		"supportedProtocolVersions": []int{tangle.Protocol},
		"protocol": object{
			"version": tangle.Protocol, "networkName": net.Name, "bech32Hrp": net.HRP, "minPowScore": MinScore(net),
			"belowMaxDepth": net.BelowMaxDepth, "tokenSupply": strconv.FormatUint(net.Supply, 10),
			"rentStructure": object{"vByteCost": net.StorageCost, "vByteFactorData": 1, "vByteFactorKey": 10},
		},
		"pendingProtocolParameters": []string{},
		"baseToken":                 c.s.Token,
		"metrics":                   object{"blocksPerSecond": blocks, "referencedBlocksPerSecond": confirmed, "referencedRate": referenced},
		"features":                  features,
	}, nil
}

// smallest is how many bytes a block has that is only parents.
const smallest = 46

// MinScore is a score (TIP-12) that demands no less work than the network does, which
// may also count zero trits whatever a block's size.
func MinScore(n *tangle.Network) uint32 {
	if n.MinZeros == 0 {
		return n.MinScore
	}
	score := math.Pow(3, float64(n.MinZeros-1))/smallest + 1
	return max(n.MinScore, uint32(min(score, math.MaxUint32)))
}

// A pace is how fast blocks come and are confirmed, between one look and another at
// least a second later.
type pace struct {
	mu        sync.Mutex
	at        time.Time
	confirmed uint64
	waiting   int
	blocks    float64 // a second
	included  float64
}

func (p *pace) of(i *node.Info) (blocks, confirmed float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	took := now.Sub(p.at).Seconds()
	if took < 1 {
		return p.blocks, p.included
	}
	if !p.at.IsZero() && i.Blocks >= p.confirmed {
		more := float64(i.Blocks - p.confirmed)
		p.included = more / took
		p.blocks = max(0, more+float64(i.Unconfirmed-p.waiting)) / took
	}
	p.at, p.confirmed, p.waiting = now, i.Blocks, i.Unconfirmed
	return p.blocks, p.included
}

func (c *call) tips() (any, error) {
	var tips []tangle.BlockID
	synced := false
	err := c.look(func(n *node.Node) {
		if synced = n.Synced(); synced {
			tips = n.Tips()
		}
	})
	if err == nil && !synced {
		err = notSynced
	}
	return object{"tips": tips}, err
}

// peerList describes the peers that the core has.
func (c *call) peerList() ([]object, error) {
	if !c.s.Control {
		return nil, forbidden
	}
	var info node.Info
	if err := c.look(func(n *node.Node) { info = n.Info() }); err != nil {
		return nil, err
	}
	of := map[string]node.Peer{}
	speak, synced := 0, 0
	for _, p := range info.Peers {
		of[p.Name] = p
		if p.Speaks {
			speak++
			if p.Latest+1 >= info.Latest.Index {
				synced++
			}
		}
	}
	list := []object{}
	for _, p := range c.s.Node.Peers() {
		seen, ok := of[p.Key.PeerName()]
		if !ok {
			continue // of other cores
		}
		o := object{"id": p.Key.String(), "multiAddresses": []string{multiaddress(p.Addr, p.Key)}, "relation": "unknown", "connected": p.Link != 0}
		if p.Addr != "" {
			o["relation"] = "known"
		}
		if seen.Speaks && p.Link != 0 {
			o["gossip"] = object{
				"heartbeat": object{
					"solidMilestoneIndex": seen.Latest, "prunedMilestoneIndex": 0, "latestMilestoneIndex": seen.Latest,
					"connectedPeers": speak, "syncedPeers": synced,
				},
				"metrics": object{"droppedPackets": seen.Dropped + seen.Bad},
			}
		}
		list = append(list, o)
	}
	return list, nil
}

func (c *call) peers() (any, error) { return c.peerList() }

func (c *call) peer() (any, error) {
	list, err := c.peerList()
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		if p["id"] == c.PathValue("id") {
			return p, nil
		}
	}
	return nil, notFound("peer %.80s", c.PathValue("id"))
}

// multiaddress is where a peer is, as Stardust writes it; the key is a node's here,
// no libp2p identity.
func multiaddress(addr string, key keys.Public) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "/p2p/" + key.String()
	}
	kind := "dns"
	if ip := net.ParseIP(host); ip != nil {
		if kind = "ip6"; ip.To4() != nil {
			kind = "ip4"
		}
	}
	return "/" + kind + "/" + host + "/tcp/" + port + "/p2p/" + key.String()
}
