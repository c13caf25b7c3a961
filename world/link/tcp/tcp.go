// Package tcp carries links over TCP. Go sets TCP_NODELAY on every connection,
// and a link writes whole packets, so none waits for another. Go's keep-alive
// probes find a peer that has vanished without a word.
package tcp

import (
	"context"
	"fmt"
	"net"

	"coinop.dev/core/keys"
	"coinop.dev/world/link"
)

// Dial connects to addr ("host:port") and proves that the holder of peer
// answers there. Connecting and the handshake get link.HandshakeTimeout each.
func Dial(ctx context.Context, addr string, self keys.Secret, peer keys.Public) (*link.Session, error) {
	dialer := net.Dialer{Timeout: link.HandshakeTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: check that the peer runs and that %s is where it listens", err, addr)
	}
	return link.Initiate(ctx, conn, self, peer)
}

// Listen waits for peers on addr ("host:port"; port 0 picks a free one).
func Listen(addr string, self keys.Secret, o link.Options) (*link.Listener, error) {
	inner, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: check that %s is an address of this machine and not in use", err, addr)
	}
	return link.Listen(inner, self, o), nil
}
