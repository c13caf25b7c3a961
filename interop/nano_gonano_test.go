package interop

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"testing"
	"time"

	gonano "github.com/hectorchu/gonano/rpc"
	gosocket "github.com/hectorchu/gonano/websocket"

	"coinop.dev/core/ledger/lattice"
)

// gonanoBlock is a block as gonano has it.
func gonanoBlock(b *lattice.Block) *gonano.Block {
	balance, _ := new(big.Int).SetString(b.Balance.String(), 10)
	return &gonano.Block{
		Type: "state", Account: b.Account.String(), Previous: b.Previous[:], Representative: b.Representative.String(),
		Balance: &gonano.RawAmount{Int: *balance}, Link: b.Link[:], LinkAsAccount: lattice.Key(b.Link).String(),
		Signature: b.Signature[:], Work: gonanoWork(b.Work),
	}
}

func gonanoWork(n uint64) gonano.HexData {
	b, _ := hex.DecodeString(fmt.Sprintf("%016x", n))
	return b
}

// TestGonano asks our node by gonano, a client in Go that is none of ours: it strictly
// decodes what it is answered.
func TestGonano(t *testing.T) {
	url, socket, all := nanoServer(t)
	c := gonano.Client{URL: url, Ctx: t.Context()}
	ws := gosocket.Client{URL: socket, Ctx: t.Context()}
	must(t, ws.Connect())
	defer ws.Close()
	bank, shop := nanoSecret("genesis"), nanoSecret("shop")
	bankName, shopName := lattice.Key(bank.Public()).String(), lattice.Key(shop.Public()).String()
	network := nanoNetwork()

	// pay is one block of the bank's, whose work the node does.
	last := network.Genesis
	pay := func() *gonano.Block {
		b := last
		b.Previous, b.Link = last.Hash(), shop.Public()
		b.Balance, _ = last.Balance.Sub(lattice.RawOf(9))
		work, _, _, err := c.WorkGenerate(b.Previous[:], gonanoWork(network.WorkSend))
		must(t, err)
		_, err = fmt.Sscanf(hex.EncodeToString(work), "%x", &b.Work)
		must(t, err)
		if all, _, _, _, err := c.WorkValidate(b.Previous[:], work); err != nil || !all {
			t.Fatalf("the work is not enough: %v", err)
		}
		b.Sign(bank)
		last = b
		theirs := gonanoBlock(&b)
		hash, err := c.Process(theirs, "send")
		must(t, err)
		if own, err := theirs.Hash(); err != nil || own.String() != hash.String() {
			t.Fatalf("%s is processed as %s: %v", own, hash, err)
		}
		return theirs
	}
	heard := false
	for n := 1; !heard; n++ { // gonano does not wait until it is subscribed
		paid, _ := pay().Hash()
		select {
		case m := <-ws.Messages:
			confirmed, ok := m.(*gosocket.Confirmation)
			if heard = ok; !ok || n == 1 && confirmed.Hash.String() != paid.String() || confirmed.Account != bankName {
				t.Fatalf("heard %T %+v", m, m)
			}
		case <-time.After(time.Second):
		}
		if n > 10 {
			t.Fatal("nothing is heard of ten payments")
		}
	}
	info, err := c.AccountInfo(bankName)
	must(t, err)
	cementedEverywhere(t, all, bank.Public(), info.BlockCount)

	waits, err := c.AccountsPending([]string{shopName}, 100)
	must(t, err)
	if len(waits[shopName]) != int(info.BlockCount)-1 {
		t.Errorf("%d payments wait of %d", len(waits[shopName]), info.BlockCount-1)
	}
	open := lattice.Block{Account: shop.Public(), Representative: bank.Public(), Balance: lattice.RawOf(9), Link: last.Hash()}
	open.Work = lattice.Work(open.Root(), network.WorkReceive, 0)
	open.Sign(shop)
	_, err = c.Process(gonanoBlock(&open), "open")
	must(t, err)
	cementedEverywhere(t, all, shop.Public(), 1)

	balance, _, err := c.AccountBalance(shopName)
	if err != nil || balance.String() != "9" {
		t.Errorf("balance %v: %v", balance, err)
	}
	history, _, err := c.AccountHistoryRaw(shopName, 10, nil)
	if err != nil || len(history) != 1 || history[0].Subtype != "receive" || history[0].Account != bankName || history[0].Amount.String() != "9" {
		t.Errorf("history %+v: %v", history, err)
	}
	newest := open.Hash()
	b, err := c.BlockInfo(newest[:])
	if err != nil || !b.Confirmed || b.BlockAccount != shopName || b.Contents.Account != shopName || b.Subtype != "receive" {
		t.Errorf("block %+v: %v", b, err)
	}
	blocks, err := c.BlocksInfo([]gonano.BlockHash{newest[:]})
	if err != nil || blocks[newest.String()].Height != 1 {
		t.Errorf("blocks %+v: %v", blocks, err)
	}
	if cemented, count, _, err := c.BlockCount(); err != nil || cemented != info.BlockCount+1 || count != cemented {
		t.Errorf("%d blocks of %d are cemented: %v", cemented, count, err)
	}
	if reps, err := c.RepresentativesOnline(); err != nil || reps[bankName].Weight.String() == "0" {
		t.Errorf("representatives %+v: %v", reps, err)
	}
	if chain, err := c.Chain(newest[:], 5); err != nil || len(chain) != 1 {
		t.Errorf("chain %v: %v", chain, err)
	}
	if _, err := c.AccountInfo(lattice.Key{7}.String()); err == nil || err.Error() != "Account not found" {
		t.Errorf("an account that is not there: %v", err)
	}
	if frontiers, err := c.AccountsFrontiers([]string{shopName}); err != nil || frontiers[shopName].String() != newest.String() {
		t.Errorf("frontiers %v: %v", frontiers, err)
	}
}
