package ternary

// Curl-P-81 is a sponge of three hashes' size; a round replaces each trit by a
// function of two.
const (
	curlState  = 3 * HashTrits
	curlRounds = 81
)

// sbox maps two trits x and y, at x + 4y + 5.
var sbox = [11]int8{1, 0, -1, 2, 1, -1, 0, 2, -1, 1, 0}

// A Curl is the plain sponge, one trit a byte: the reference that Lanes must
// agree with. The zero value is ready.
type Curl struct{ state [curlState]int8 }

// Absorb takes trits, 243 at a time, the last piece as short as it is.
func (c *Curl) Absorb(trits []int8) {
	for len(trits) > 0 {
		n := copy(c.state[:HashTrits], trits)
		trits = trits[n:]
		c.transform()
	}
}

// Squeeze gives the next hash.
func (c *Curl) Squeeze() (h Hash) {
	copy(h[:], c.state[:])
	c.transform()
	return h
}

func (c *Curl) transform() {
	var old [curlState]int8
	for range curlRounds {
		old = c.state
		at := 0
		for i := range c.state {
			x := old[at]
			if at < 365 {
				at += 364
			} else {
				at -= 365
			}
			c.state[i] = sbox[x+4*old[at]+5]
		}
	}
}

// CurlSum is the hash of trits.
func CurlSum(trits []int8) (h Hash) {
	var c Curl
	c.Absorb(trits)
	copy(h[:], c.state[:])
	return h
}

// Lanes is how many hashes a CurlLanes computes at once.
const Lanes = 64

// A lane pair holds one trit of 64 hashes: a bit of plus where it is 1, of minus
// where it is -1.
type lanePair struct{ plus, minus uint64 }

// CurlLanes is Curl-P-81 of 64 inputs at once, each of one block of 243 trits,
// a bit each of two words. The zero value has zeros in all trits of all lanes.
type CurlLanes struct{ in [HashTrits]lanePair }

// Set puts a trit into one lane.
func (c *CurlLanes) Set(lane, trit int, v int8) {
	p, bit := &c.in[trit], uint64(1)<<lane
	p.plus &^= bit
	p.minus &^= bit
	switch v {
	case 1:
		p.plus |= bit
	case -1:
		p.minus |= bit
	}
}

// b1t6Bits has, for each byte, a bit for each of its six trits that is 1, and for
// each that is -1.
var b1t6Bits = func() (table [256]struct{ plus, minus uint8 }) {
	var trits [6]int8
	for b := range table {
		PutB1T6(trits[:], []byte{byte(b)})
		for i, v := range trits {
			switch v {
			case 1:
				table[b].plus |= 1 << i
			case -1:
				table[b].minus |= 1 << i
			}
		}
	}
	return table
}()

// PutB1T6 writes bytes into one lane, as b1t6 has them, from the given trit on.
func (c *CurlLanes) PutB1T6(lane, trit int, src []byte) {
	lane &= Lanes - 1
	for k, b := range src {
		bits := b1t6Bits[b]
		for i, p := range c.in[trit+6*k : trit+6*k+6] {
			c.in[trit+6*k+i] = lanePair{
				plus:  p.plus&^(1<<lane) | uint64(bits.plus>>i&1)<<lane,
				minus: p.minus&^(1<<lane) | uint64(bits.minus>>i&1)<<lane,
			}
		}
	}
}

// PutAllB1T6 writes bytes into all lanes.
func (c *CurlLanes) PutAllB1T6(trit int, src []byte) {
	for k, b := range src {
		bits := b1t6Bits[b]
		for i := range 6 {
			c.in[trit+6*k+i] = lanePair{-uint64(bits.plus >> i & 1), -uint64(bits.minus >> i & 1)}
		}
	}
}

// A LanesSum has the 64 hashes.
type LanesSum struct{ out [HashTrits]lanePair }

// Sum hashes the lanes' inputs, which stay.
func (c *CurlLanes) Sum(sum *LanesSum) {
	var a, b [curlState]lanePair
	copy(a[:], c.in[:])
	for range curlRounds / 2 {
		lanesRound(&b, &a)
		lanesRound(&a, &b)
	}
	lanesRound(&b, &a) // the number of rounds is odd
	copy(sum.out[:], b[:])
}

// lanesRound is one round. Step i of the plain round reads the trits at 364i and
// 364(i+1), modulo 729: two indices that go down side by side, each read once.
func lanesRound(to, from *[curlState]lanePair) {
	y := from[364]
	to[0] = lanesSbox(from[0], y)
	for k := 1; k < curlState; k += 2 {
		high := from[729-(k+1)/2]
		to[k] = lanesSbox(y, high)
		y = from[364-(k+1)/2]
		to[k+1] = lanesSbox(high, y)
	}
}

// lanesSbox is sbox of 64 pairs of trits. Let t be where exactly one of "x is -1"
// and "y is 1" holds. The result is 1 where t holds and x is not 1, and -1 where t
// does not hold and "x is 1" is the same as "y is -1".
func lanesSbox(x, y lanePair) lanePair {
	t := x.minus ^ y.plus
	return lanePair{plus: t &^ x.plus, minus: ^(t | (x.plus ^ y.minus))}
}

// Hash is the hash of one lane.
func (s *LanesSum) Hash(lane int) (h Hash) {
	for i, p := range s.out {
		h[i] = int8(p.plus>>lane&1) - int8(p.minus>>lane&1)
	}
	return h
}

// Zeros has a bit for each lane whose hash ends in at least n zero trits.
func (s *LanesSum) Zeros(n int) uint64 {
	lanes := ^uint64(0)
	for i := HashTrits - 1; i >= HashTrits-n && lanes != 0; i-- {
		lanes &^= s.out[i].plus | s.out[i].minus
	}
	return lanes
}

// TrailingZeros counts the zero trits at the end of one lane's hash.
func (s *LanesSum) TrailingZeros(lane int) (n int) {
	for n < HashTrits {
		p := s.out[HashTrits-1-n]
		if (p.plus|p.minus)>>lane&1 == 1 {
			break
		}
		n++
	}
	return n
}
