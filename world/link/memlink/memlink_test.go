package memlink_test

import (
	"testing"
	"testing/synctest"

	"coinop.dev/world/link/linktest"
	"coinop.dev/world/link/memlink"
)

func TestMemlink(t *testing.T) {
	linktest.Test(t, func(t *testing.T, story linktest.Story) {
		synctest.Test(t, func(t *testing.T) {
			var n memlink.Net
			story(t, linktest.Medium{
				Addr:       "node",
				Dial:       n.Dial,
				Listen:     n.Listen,
				DialConn:   n.DialConn,
				ListenConn: n.ListenConn,
			})
		})
	})
}
