package sim

import (
	"bytes"
	"fmt"
	"slices"

	"coinop.dev"
)

// Worlds are the stories that can be run by seed.
var Worlds = map[string]func(seed uint64, trace func(string), bug Bug) ([32]byte, error){
	"oneway": playOneway,
}

// OrdersPerSeed is how many orders a seed's story has.
const OrdersPerSeed = 30

func playOneway(seed uint64, trace func(string), bug Bug) ([32]byte, error) {
	o, err := NewOneway(seed, Rough)
	if err != nil {
		return [32]byte{}, err
	}
	o.Trace(trace)
	o.Bug = bug
	err = o.Play(OrdersPerSeed)
	return o.Transcript(), err
}

// Seed runs a world twice and compares the transcripts, which catches map
// order, hidden clocks and hidden randomness.
func Seed(world string, seed uint64) error { return SeedWithBug(world, seed, NoBug) }

// SeedWithBug is Seed with a mistake planted in the driver.
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

func sortOrders(orders []coinop.Order) {
	slices.SortFunc(orders, func(a, b coinop.Order) int { return bytes.Compare(a.ID[:], b.ID[:]) })
}
