package onion

// Multiply is what the tests hold against secp256k1's own.
var Multiply, MultiplyBoth = multiply, multiplyBoth

// Forge changes the first bytes of the layer that p shows to the hop of secret,
// as only the origin can.
func Forge(p *Packet, secret, assoc [32]byte, was, is []byte) {
	for i := range was {
		p.payloads()[i] ^= was[i] ^ is[i]
	}
	mu := derive("mu", &secret)
	*p.mac() = p.sum(&mu, &assoc)
}
