package coap_test

import (
	"testing"

	wire "coinop.dev/core/coap"
	"coinop.dev/world/link/coap"
)

// One device, one request after the other, client and server in one process.
func BenchmarkRequest(b *testing.B) {
	shop := &counter{}
	plain, err := coap.Listen("127.0.0.1:0", shop.handle, coap.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer plain.Close()
	key := []byte("sixteen bytes ok")
	secure, err := coap.ListenDTLS("127.0.0.1:0", shop.handle, coap.Options{PSK: func(string) []byte { return key }})
	if err != nil {
		b.Fatal(err)
	}
	defer secure.Close()
	for name, uri := range map[string]string{"udp": "coap://" + plain.Addr().String(), "dtls": "coaps://" + secure.Addr().String()} {
		b.Run(name, func(b *testing.B) {
			c, err := coap.Dial(b.Context(), uri, coap.Options{Name: "pump", Key: key})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			b.ReportAllocs()
			for b.Loop() {
				if answer, err := c.Do(b.Context(), get("/hello")); err != nil || answer.Code != wire.Content {
					b.Fatal(answer.Code, err)
				}
			}
		})
	}
}
