package engine_test

import "testing"

// A machine that is closed has let go of its address.
func TestListenAgain(t *testing.T) {
	addr := "127.0.0.1:0"
	for range 50 {
		m := machine(t, nil)
		got, err := m.Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		addr = got.String()
		m.Close()
	}
}
