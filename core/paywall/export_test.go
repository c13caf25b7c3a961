package paywall

// The vectors' keys are no secp256k1 scalars, so their tests need these.

func (c Challenge) IDUnder(key string) string { return c.id([]byte(key)) }

func (c Challenge) Slots() string { return c.slots() }

var Decode64, Encode64 = decode64, encode64
