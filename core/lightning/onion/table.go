package onion

import (
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"coinop.dev/core/keys"
)

// Teeth and columns of the comb: together the 128 bits of half a scalar.
const (
	teeth   = 8
	columns = 128 / teeth
)

// A Table is a node's key made ready to be multiplied often: New to such a hop
// costs half. It takes 30 kB and as long as three onions, so it is for the few
// nodes that are paid again and again. It does not change.
type Table struct {
	node keys.Public

	// points[b] is the sum of 2^(16i) times the key over the bits i of b (Guide
	// to Elliptic Curve Cryptography, 3.3.2, "fixed-base comb").
	points [1 << teeth]secp256k1.JacobianPoint
}

// NewTable makes the table of node, which must be a point.
func NewTable(node keys.Public) (*Table, error) {
	key, err := secp256k1.ParsePubKey(node[:])
	if err != nil {
		return nil, errPoint(node)
	}
	t := &Table{node: node}
	var tooth secp256k1.JacobianPoint
	key.AsJacobian(&tooth)
	for first := 1; first < len(t.points); first *= 2 {
		for b := range first {
			secp256k1.AddNonConst(&t.points[b], &tooth, &t.points[first+b])
		}
		for range columns {
			secp256k1.DoubleNonConst(&tooth, &tooth)
		}
	}
	affine(t.points[1:])
	return t, nil
}

// multiply is k times the key, with some Z.
func (t *Table) multiply(k *secp256k1.ModNScalar) (q secp256k1.JacobianPoint) {
	k1, k2 := split(k)
	for column := columns - 1; column >= 0; column-- {
		secp256k1.DoubleNonConst(&q, &q)
		if b := k1.comb(column); b != 0 {
			p := t.points[b]
			k1.sign(&p)
			secp256k1.AddNonConst(&q, &p, &q)
		}
		if b := k2.comb(column); b != 0 {
			p := t.points[b]
			k2.sign(&p)
			p.X.Mul(&beta).Normalize()
			secp256k1.AddNonConst(&q, &p, &q)
		}
	}
	return q
}

// comb is every columns-th bit of h from the column on.
func (h *half) comb(column int) (b uint8) {
	for i := teeth/2 - 1; i >= 0; i-- {
		at := column + i*columns
		b |= uint8(h.lo>>at&1)<<i | uint8(h.hi>>at&1)<<(i+teeth/2)
	}
	return b
}

func (h *half) sign(p *secp256k1.JacobianPoint) {
	if h.negative {
		p.Y.Negate(1).Normalize()
	}
}

// affine makes every Z one with a single inversion, which costs as much as ten
// additions. None may be the point at infinity.
func affine(points []secp256k1.JacobianPoint) {
	before := make([]secp256k1.FieldVal, len(points)) // the product of Z of those before
	var product secp256k1.FieldVal
	product.SetInt(1)
	for i := range points {
		before[i] = product
		product.Mul(&points[i].Z)
	}
	product.Inverse()
	for i := len(points) - 1; i >= 0; i-- {
		var inverse secp256k1.FieldVal
		inverse.Mul2(&product, &before[i])
		product.Mul(&points[i].Z)
		rescale(&points[i], &inverse)
	}
}
