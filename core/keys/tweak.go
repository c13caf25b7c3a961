package keys

import (
	"errors"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// errTweak has a chance of 2^-128 unless somebody chose the numbers for it.
var errTweak = errors.New("keys add up to nothing; nobody can sign with the result")

// AddTweak returns p + t·G, the key of Secret.AddTweak(t). It fails if p is not
// on the curve or t is no scalar.
func (p Public) AddTweak(t [32]byte) (Public, error) {
	var k secp256k1.ModNScalar
	if k.SetBytes(&t) != 0 {
		return Public{}, errTweak
	}
	var point, tweak secp256k1.JacobianPoint
	if err := p.jacobian(&point); err != nil {
		return Public{}, err
	}
	secp256k1.ScalarBaseMultNonConst(&k, &tweak)
	return sum(&point, &tweak)
}

// AddTweak returns s + t.
func (s Secret) AddTweak(t [32]byte) (Secret, error) {
	var k secp256k1.ModNScalar
	if k.SetBytes(&t) != 0 {
		return Secret{}, errTweak
	}
	return secretOf(k.Add(s.scalar()))
}

// Blend returns a·p + b·q, the key of BlendSecrets of the same. It fails if p
// or q is not on the curve or a or b is no scalar.
func Blend(p Public, a [32]byte, q Public, b [32]byte) (Public, error) {
	var left, right secp256k1.JacobianPoint
	if err := p.times(a, &left); err != nil {
		return Public{}, err
	}
	if err := q.times(b, &right); err != nil {
		return Public{}, err
	}
	return sum(&left, &right)
}

// Blend is Blend(s.Public(), a, q, b), in two thirds of the time.
func (s Secret) Blend(a [32]byte, q Public, b [32]byte) (Public, error) {
	var k secp256k1.ModNScalar
	if k.SetBytes(&a) != 0 {
		return Public{}, errTweak
	}
	var left, right secp256k1.JacobianPoint
	secp256k1.ScalarBaseMultNonConst(k.Mul(s.scalar()), &left)
	if err := q.times(b, &right); err != nil {
		return Public{}, err
	}
	return sum(&left, &right)
}

// BlendSecrets returns a·s + b·t.
func BlendSecrets(s Secret, a [32]byte, t Secret, b [32]byte) (Secret, error) {
	var left, right secp256k1.ModNScalar
	if left.SetBytes(&a) != 0 || right.SetBytes(&b) != 0 {
		return Secret{}, errTweak
	}
	left.Mul(s.scalar())
	right.Mul(t.scalar())
	return secretOf(left.Add(&right))
}

func (s Secret) scalar() *secp256k1.ModNScalar {
	var k secp256k1.ModNScalar
	k.SetBytes(s.bytes())
	return &k
}

func secretOf(k *secp256k1.ModNScalar) (Secret, error) {
	if k.IsZero() {
		return Secret{}, errTweak
	}
	s := Secret{&scalar{new([32]byte)}}
	k.PutBytes(s.bytes())
	k.Zero()
	return s, nil
}

func (p Public) jacobian(point *secp256k1.JacobianPoint) error {
	k, err := p.parse()
	if err != nil {
		return err
	}
	k.AsJacobian(point)
	return nil
}

// times sets result to a·p.
func (p Public) times(a [32]byte, result *secp256k1.JacobianPoint) error {
	var k secp256k1.ModNScalar
	if k.SetBytes(&a) != 0 {
		return errTweak
	}
	var point secp256k1.JacobianPoint
	if err := p.jacobian(&point); err != nil {
		return err
	}
	secp256k1.ScalarMultNonConst(&k, &point, result)
	return nil
}

func sum(a, b *secp256k1.JacobianPoint) (p Public, err error) {
	var point secp256k1.JacobianPoint
	secp256k1.AddNonConst(a, b, &point)
	if point.Z.IsZero() || (point.X.IsZero() && point.Y.IsZero()) {
		return p, errTweak
	}
	point.ToAffine()
	copy(p[:], secp256k1.NewPublicKey(&point.X, &point.Y).SerializeCompressed())
	return p, nil
}
