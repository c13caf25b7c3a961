package wallet_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"coinop.dev/core/receipt"
	"coinop.dev/core/wallet"
)

// Whatever happens to three devices and their gateway, in the end every order is
// paid once and proven, or was said to be unpaid and is not in the chain.
func TestAnythingMayHappen(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { anything(t, seed) })
	}
}

func anything(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 4))
	k := newTalk(t)
	k.quiet = true
	names := []string{"alice", "bob", "carol"}
	k.obey("wallet joint gather=1 bump=3 gap=2\nopen alice 84\nopen bob 86 solo\nopen carol 49 perday=9000")
	for _, n := range names {
		k.obey(fmt.Sprintf("fund %s 60000\nfund %s 20000", n, n))
	}
	k.obey("mine")
	log, asked := "", map[string]string{}
	do := func(command string) {
		log += command + "\n"
		k.obey(command)
	}
	for i := range 40 {
		who := names[r.IntN(3)]
		switch r.IntN(12) {
		case 0, 1, 2, 3:
			o := fmt.Sprintf("o%d", i)
			asked[o] = fmt.Sprintf("order %s %s %d", who, o, 1000+r.IntN(3000))
			do(asked[o])
		case 4:
			do("mine")
		case 5:
			do("stuck")
		case 6:
			do(fmt.Sprint("wait ", 1+r.IntN(90)))
		case 7:
			do("offline " + who)
		case 8:
			do("online " + who)
		case 9:
			do("lose " + who)
		case 10:
			do([]string{"crash", "doom"}[r.IntN(2)])
		case 11:
			do("reorg 1")
		}
	}
	k.doomed = false
	for _, n := range names {
		k.devices[n].lose = 0
		do("online " + n)
	}
	for range 4 {
		for _, o := range sortedNames(asked) {
			do(asked[o])
		}
		do("wait 100\nmine\nwait 100000\nmine")
	}
	k.compare()
	k.core.Check()
	if s := k.core.Summary(); s.Waiting > 0 || len(s.Sending) > 0 {
		t.Errorf("%d orders wait for ever: %+v\n%s", s.Waiting, s.Sending, log)
	}
	for id, p := range k.pays {
		sum, n := k.chain.paid(p.Script)
		_, err := wallet.Verify(receipt.Entry{Order: id, Amount: p.Amount}, p.Script, 1, regtest, k.proofs[id])
		if k.told[id] == 0 {
			if n != 0 || !k.failed[id] {
				t.Errorf("order %s has no receipt, and %d outputs\n%s", orderName(id), n, log)
			}
			continue
		}
		if n != 1 || sum != p.Amount.Sats() || err != nil || k.failed[id] {
			t.Errorf("order %s of %v is paid %d sat in %d outputs, failed %t: %v\n%s", orderName(id), p.Amount, sum, n, k.failed[id], err, log)
		}
	}
}

func sortedNames(m map[string]string) (names []string) {
	for i := range 40 {
		if o := fmt.Sprintf("o%d", i); m[o] != "" {
			names = append(names, o)
		}
	}
	return names
}
