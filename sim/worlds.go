package sim

import (
	"bytes"
	"fmt"
	"slices"

	"coinop.dev/core/money"
)

// Worlds are the stories that can be run by seed.
var Worlds = map[string]func(seed uint64, trace func(string), bug Bug) ([32]byte, error){
	"oneway":    play(NewOneway),
	"payword":   play(NewPayword),
	"lightning": play(NewLightning),
	"gateway":   play(NewGateway),
	"kiosk":     play(NewKiosk),
	"lattice":   play(NewLattice),
	"tangle":    play(NewTangle),
}

// OrdersPerSeed is how many orders a seed's story has.
const OrdersPerSeed = 30

// A story is a world that can be played to its end.
type story interface {
	Trace(func(string))
	Play(orders int) error
	Transcript() [32]byte
}

func play[S story](open func(uint64, Faults, Bug) (S, error)) func(uint64, func(string), Bug) ([32]byte, error) {
	return func(seed uint64, trace func(string), bug Bug) ([32]byte, error) {
		s, err := open(seed, Rough, bug)
		if err != nil {
			return [32]byte{}, err
		}
		s.Trace(trace)
		err = s.Play(OrdersPerSeed)
		return s.Transcript(), err
	}
}

// Seed runs a world twice and compares the transcripts, which catches map
// order, hidden clocks and hidden randomness.
func Seed(world string, seed uint64) error { return SeedWithBug(world, seed, NoBug) }

// SeedWithBug is Seed with a mistake planted.
func SeedWithBug(world string, seed uint64, bug Bug) error {
	play, ok := Worlds[world]
	if !ok {
		return fmt.Errorf("no world is called %q; there are %v", world, Names())
	}
	first, err := play(seed, nil, bug)
	if err != nil {
		return err
	}
	if second, _ := play(seed, nil, bug); second != first {
		return fmt.Errorf("two runs of one seed differ: %x and %x", first[:4], second[:4])
	}
	return nil
}

// Names lists the worlds.
func Names() (names []string) {
	for name := range Worlds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func sortOrders(orders []money.Order) {
	slices.SortFunc(orders, func(a, b money.Order) int { return bytes.Compare(a.ID[:], b.ID[:]) })
}
