package keys

import "github.com/decred/dcrd/dcrec/secp256k1/v4"

const (
	// windowBits is how many bits of a scalar one addition covers. Five make the
	// table cost what 25 signatures save.
	windowBits = 5
	windows    = (256 + windowBits - 1) / windowBits
	// tableMin is how many signatures by one key are worth a table.
	tableMin = 32
)

// A table has the multiples of one public key by which a scalar multiplication is
// one addition per window, as the curve library has them for the generator. It is
// for verifying: nothing about it is secret or takes constant time.
type table struct {
	key    Public
	points [windows][1<<windowBits - 1]secp256k1.JacobianPoint // [i][j]: (j+1)·2^(5i)·key, affine
}

// newTable makes the table of a key, or returns nil if it is not on the curve.
func newTable(key Public) *table {
	t := &table{key: key}
	base := new(secp256k1.JacobianPoint)
	if key.jacobian(base) != nil {
		return nil
	}
	var bases [windows]secp256k1.JacobianPoint
	for i := range bases {
		bases[i].Set(base)
		for range windowBits {
			secp256k1.DoubleNonConst(base, base)
		}
	}
	affine(bases[:])
	share(windows, func(_, from, to int) {
		for i := from; i < to; i++ {
			row := t.points[i][:]
			row[0].Set(&bases[i])
			for j := 1; j < len(row); j++ {
				secp256k1.AddNonConst(&row[j-1], &bases[i], &row[j])
			}
			affine(row)
		}
	})
	return t
}

// affine brings points to Z = 1 with one inversion for all. None may be infinity;
// small multiples of a point of a large prime order are not.
func affine(points []secp256k1.JacobianPoint) {
	var before [max(windows, 1<<windowBits)]secp256k1.FieldVal // products of the Zs before each
	product := new(secp256k1.FieldVal).SetInt(1)
	for i := range points {
		before[i].Set(product)
		product.Mul(&points[i].Z)
	}
	product.Inverse()
	for i := len(points) - 1; i >= 0; i-- {
		p := &points[i]
		inverse := new(secp256k1.FieldVal).Mul2(product, &before[i])
		product.Mul(&p.Z)
		square := new(secp256k1.FieldVal).SquareVal(inverse)
		p.X.Mul(square).Normalize()
		p.Y.Mul(square.Mul(inverse)).Normalize()
		p.Z.SetInt(1)
	}
}

// times sets result to k·key.
func (t *table) times(k *secp256k1.ModNScalar, result *secp256k1.JacobianPoint) {
	*result = secp256k1.JacobianPoint{}
	b := k.Bytes()
	for i := range windows {
		if j := window(&b, i*windowBits); j > 0 {
			secp256k1.AddNonConst(result, &t.points[i][j-1], result)
		}
	}
}

// window is windowBits bits of a big-endian number, from a bit counted from its
// end.
func window(b *[32]byte, bit int) int {
	at := 31 - bit/8
	two := int(b[at])
	if at > 0 {
		two |= int(b[at-1]) << 8
	}
	return two >> (bit % 8) & (1<<windowBits - 1)
}

// order is the order of the group, which is less than the field's prime.
var order = func() (n secp256k1.FieldVal) {
	n.SetByteSlice(secp256k1.Params().N.Bytes())
	return n
}()

// verify is Public.Verify by t.key: u1·G + u2·key has the x coordinate r modulo
// the order. Two x below the prime do, and neither needs dividing by Z.
func (t *table) verify(digest *[32]byte, sig *Signature) bool {
	var r, s, e secp256k1.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || s.IsOverHalfOrder() || r.IsZero() || s.IsZero() {
		return false
	}
	e.SetBytes(digest)
	s.InverseNonConst()
	var left, right, point secp256k1.JacobianPoint
	secp256k1.ScalarBaseMultNonConst(e.Mul(&s), &left)
	t.times(s.Mul(&r), &right)
	secp256k1.AddNonConst(&left, &right, &point)
	if point.Z.IsZero() || point.X.IsZero() && point.Y.IsZero() {
		return false
	}
	var x, square, product secp256k1.FieldVal
	rb := r.Bytes()
	x.SetBytes(&rb)
	square.SquareVal(&point.Z)
	point.X.Normalize()
	if product.Mul2(&x, &square).Normalize().Equals(&point.X) {
		return true
	}
	if x.IsGtOrEqPrimeMinusOrder() {
		return false
	}
	return product.Mul2(x.Add(&order), &square).Normalize().Equals(&point.X)
}
