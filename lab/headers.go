package lab

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/filter"
	"coinop.dev/core/bitcoin/header"
)

// A headerServer is a node that has headers and the headers of filters, and no
// blocks: as much of one as a client asks for that has no script to look for.
type headerServer struct {
	params   *chaincfg.Params
	listener net.Listener
	chain    []wire.BlockHeader // chain[i] is at height i+1
	heights  map[chainhash.Hash]int
	filters  []chainhash.Hash // filter headers by height
	same     chainhash.Hash   // every block's filter hash but the first one's
	sent     atomic.Uint64    // bytes
	running  sync.WaitGroup
}

func newHeaderServer(params *chaincfg.Params, chain []wire.BlockHeader) (*headerServer, error) {
	raw, err := filter.Build(params.GenesisBlock, func(wire.OutPoint) []byte { return nil })
	if err != nil {
		return nil, err
	}
	s := &headerServer{params: params, chain: chain, heights: make(map[chainhash.Hash]int, len(chain)), filters: make([]chainhash.Hash, 1, len(chain)+1), same: filter.Hash([]byte{0})}
	s.filters[0] = filter.Header(filter.Hash(raw), chainhash.Hash{})
	s.heights[*params.GenesisHash] = 0
	for i := range chain {
		s.heights[header.Hash(&chain[i])] = i + 1
		s.filters = append(s.filters, filter.Header(s.same, s.filters[i]))
	}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	s.running.Go(func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.running.Go(func() { s.serve(conn) })
		}
	})
	return s, nil
}

func (s *headerServer) addr() string { return s.listener.Addr().String() }

func (s *headerServer) close() {
	s.listener.Close()
	s.running.Wait()
}

// serve answers one client until it hangs up.
func (s *headerServer) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	say := func(msg wire.Message) {
		n, err := wire.WriteMessageWithEncodingN(conn, msg, wire.FeeFilterVersion, s.params.Net, wire.LatestEncoding)
		s.sent.Add(uint64(n))
		if err != nil {
			conn.Close()
		}
	}
	for {
		_, msg, _, err := wire.ReadMessageWithEncodingN(in, wire.FeeFilterVersion, s.params.Net, wire.LatestEncoding)
		if err != nil {
			return
		}
		switch msg := msg.(type) {
		case *wire.MsgVersion:
			services := wire.SFNodeNetwork | wire.SFNodeWitness | wire.SFNodeCF
			nowhere := wire.NewNetAddressIPPort(net.IPv4zero, 0, services)
			v := wire.NewMsgVersion(nowhere, nowhere, msg.Nonce+1, int32(len(s.chain)))
			v.Services, v.ProtocolVersion = services, int32(wire.FeeFilterVersion)
			say(v)
			say(wire.NewMsgVerAck())
		case *wire.MsgPing:
			say(wire.NewMsgPong(msg.Nonce))
		case *wire.MsgGetHeaders:
			say(s.headersAfter(msg))
		case *wire.MsgGetCFCheckpt:
			say(s.checkpoints(msg))
		case *wire.MsgGetCFHeaders:
			say(s.filterHeaders(msg))
		}
	}
}

func (s *headerServer) headersAfter(ask *wire.MsgGetHeaders) *wire.MsgHeaders {
	from := 0
	for _, hash := range ask.BlockLocatorHashes {
		if height, known := s.heights[*hash]; known {
			from = height
			break
		}
	}
	answer := wire.NewMsgHeaders()
	for i := from; i < min(len(s.chain), from+wire.MaxBlockHeadersPerMsg); i++ {
		answer.Headers = append(answer.Headers, &s.chain[i])
	}
	return answer
}

func (s *headerServer) checkpoints(ask *wire.MsgGetCFCheckpt) *wire.MsgCFCheckpt {
	n := s.heights[ask.StopHash] / wire.CFCheckptInterval
	answer := wire.NewMsgCFCheckpt(ask.FilterType, &ask.StopHash, n)
	for i := 1; i <= n; i++ {
		answer.FilterHeaders = append(answer.FilterHeaders, &s.filters[i*wire.CFCheckptInterval])
	}
	return answer
}

func (s *headerServer) filterHeaders(ask *wire.MsgGetCFHeaders) *wire.MsgCFHeaders {
	answer := wire.NewMsgCFHeaders()
	answer.FilterType, answer.StopHash = ask.FilterType, ask.StopHash
	start := max(1, int(ask.StartHeight))
	answer.PrevFilterHeader = s.filters[start-1]
	for range s.heights[ask.StopHash] - start + 1 {
		answer.FilterHashes = append(answer.FilterHashes, &s.same)
	}
	return answer
}
