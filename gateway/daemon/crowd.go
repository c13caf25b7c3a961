package daemon

import (
	"net"
	"sync"
	"sync/atomic"
)

// MaxConnections bounds the connections to one HTTP listener: an idle one costs some
// 10 KiB, and a descriptor that the store may need. One more is closed at once.
const MaxConnections = 16_384

// crowd is a listener with room for so many.
type crowd struct {
	net.Listener
	most int64
	here atomic.Int64
}

func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c.here.Add(1) > c.most {
			c.here.Add(-1)
			conn.Close()
			continue
		}
		return &guest{Conn: conn, leave: sync.OnceFunc(func() { c.here.Add(-1) })}, nil
	}
}

type guest struct {
	net.Conn
	leave func()
}

// Close makes room.
func (g *guest) Close() error {
	g.leave()
	return g.Conn.Close()
}
