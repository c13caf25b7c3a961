package c_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/core/channel/payword"
	"coinop.dev/core/money"
	"coinop.dev/core/trade"
)

var seed = flag.Uint64("seed", 12, "of the power cuts")

// more are other builds than the usual one, for -long: as it comes, and larger.
var more = [][]string{{"-DCOINOP_STAMPS=0"}, {"-DCOINOP_STAMPS=1", "-DCOINOP_ORDERS=8", "-DCOINOP_RESEND=60"}}

func builds() [][]string {
	if *long {
		return append([][]string{nil}, more...)
	}
	return [][]string{nil}
}

// pair is a device and its gateway, by a pipe.
type pair struct {
	*agent
	g *gateway

	told struct {
		sync.Mutex
		of map[byte]map[money.OrderID]int
	}
}

func newPair(t testing.TB, seed, length, credit, every uint64, flags ...string) *pair {
	d := newTerms(t, newChaos(seed), length, credit, every)
	p := &pair{agent: newAgent(t, d, flags...), g: newGateway(t, d)}
	p.told.of = map[byte]map[money.OrderID]int{opened: {}, paid: {}, settled: {}, rejected: {}, goods: {}, declined: {}}
	p.message = p.g.take
	p.g.deliver = func(b []byte) { p.tell('M', b) }
	p.news = func(kind byte, id money.OrderID, _ []byte) {
		p.told.Lock()
		defer p.told.Unlock()
		p.told.of[kind][id]++
	}
	return p
}

func (p *pair) heard(kind byte, id money.OrderID) int {
	p.told.Lock()
	defer p.told.Unlock()
	return p.told.of[kind][id]
}

// start is agent.start, once everything else is in its place: the chain tells the
// gateway of the channel's funding.
func (p *pair) start(tear int) {
	p.t.Helper()
	if p.g != nil {
		p.g.mined()
	}
	p.agent.start(tear)
}

// on switches the device on, with its link.
func (p *pair) on(tear int) {
	p.start(tear)
	p.tell('L')
}

func orderID(n uint64) (id money.OrderID) {
	id[0] = 0xab
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

// paying pays an order until the device has taken it, whatever happens to the
// device, and says how often it was switched on again.
func (p *pair) paying(kind byte, id money.OrderID, n uint64) {
	p.t.Helper()
	p.payingOn(p.on, kind, id, n)
}

// payingOn is paying by a device that is switched on in a way of its own.
func (p *pair) payingOn(on func(tear int), kind byte, id money.OrderID, n uint64) {
	p.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		answer, ok := p.pay(kind, id, n)
		switch {
		case !ok:
			p.kill()
			on(-1)
		case answer == promised || answer == done:
			return
		case answer == refused || time.Now().After(end):
			coins, tickets := p.g.look()
			p.t.Fatalf("order %v of %d: the device answers %d\n%+v\n%+v", id, n, answer, coins, tickets)
		}
		if answer == wait {
			time.Sleep(time.Millisecond)
		}
	}
}

func TestADevicePaysCoinsAndSettlesWithTickets(t *testing.T) {
	for _, flags := range builds() {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			const orders = 100
			p := newPair(t, 11, 64, 100, 25, flags...)
			p.on(-1)
			total, sum := uint64(0), money.Amount(0)
			for i := range uint64(orders) {
				n := 1 + i%6
				p.paying('P', orderID(i), n)
				total += n
			}
			p.paying('T', orderID(9999), 1234)
			sum = money.Amount(total) * coin
			until(t, "all stamped", func() bool {
				coins, tickets := p.g.look()
				return coins.Paid == sum && coins.AtRisk < 25*coin && tickets.Left > 0
			})
			until(t, "the device knows", func() bool { return p.heard(paid, orderID(orders-1)) > 0 && p.heard(paid, orderID(9999)) > 0 })
			p.tell('S')
			until(t, "all settled", func() bool { coins, tickets := p.g.look(); return coins.Settled == sum && tickets.Paid == sum+1234 })
			for i := range uint64(orders) {
				if got, want := p.g.income(orderID(i)), money.Amount(1+i%6)*coin; got != want || p.heard(paid, orderID(i)) != 1 {
					t.Fatalf("order %d: the book has %v, not %v; told %d times", i, got, want, p.heard(paid, orderID(i)))
				}
			}
			coins, tickets := p.g.look()
			t.Logf("%d coins in %d epochs, %d settlements, %d tickets", total, coins.Epoch, coins.Settlements, tickets.Tickets)
			if answer, _ := p.pay('P', orderID(orders-1), 1); answer != done {
				t.Errorf("a paid order, asked again: %d", answer)
			}
		})
	}
}

// Hundreds of coins through power cuts, a link that loses a tenth of the
// messages, and writes that are torn in the middle.
func TestPowerCutsLoseNothingAndPayNothingTwice(t *testing.T) {
	t.Parallel()
	p := newPair(t, *seed, 256, 120, 30)
	budget := uint64(often(500, 3000))
	c, lock := newChaos(*seed+1), sync.Mutex{}
	p.g.drop = func() bool {
		lock.Lock()
		defer lock.Unlock()
		return c.IntN(10) == 0
	}
	p.on(-1)
	random := newChaos(*seed + 2)
	total, cuts := uint64(0), 0
	for i := uint64(0); total < budget; i++ {
		n := 1 + i%4
		p.paying('P', orderID(i), n)
		total += n
		switch {
		case total >= budget-60:
		case random.IntN(40) == 0:
			p.kill()
			p.on(-1)
			cuts++
		case random.IntN(40) == 0: // the next write but a few is the last
			p.kill()
			p.on(1 + random.IntN(5))
			cuts++
		}
	}
	sum := money.Amount(total) * coin
	p.tell('S')
	until(t, "all settled", func() bool {
		coins, tickets := p.g.look()
		if coins.Settled != coins.Paid {
			p.tell('S')
		}
		return coins.Paid == sum && coins.Settled == sum && tickets.Paid == sum
	})
	for i := uint64(0); total > 0; i++ {
		n := min(1+i%4, total)
		total -= min(1+i%4, total)
		if got := p.g.income(orderID(i)); got < money.Amount(n)*coin || got > money.Amount(1+i%4)*coin {
			t.Fatalf("order %d: the book has %v", i, got)
		}
	}
	coins, tickets := p.g.look()
	t.Logf("%v in %d cuts and %d starts: %d epochs, %d settlements, %d tickets", sum, cuts, p.starts, coins.Epoch, coins.Settlements, tickets.Tickets)
}

// Nothing is promised beyond the credit while nothing is settled, nor beyond the
// capacity of the channel that settles.
func TestTheDeviceKeepsToItsLimits(t *testing.T) {
	p := newPair(t, 15, 64, 20, 10)
	var tickets atomic.Bool // whether the link takes the device's tickets
	p.message = func(b []byte) {
		if binary.BigEndian.Uint16(b) != 0x810b || tickets.Load() {
			p.g.take(b)
		}
	}
	p.on(-1)
	for i := range uint64(20) {
		p.paying('P', orderID(i), 1)
	}
	if answer, _ := p.pay('P', orderID(20), 1); answer != wait {
		t.Fatalf("coin 21 of a credit of 20: %d", answer)
	}
	if answer, _ := p.pay('P', orderID(21), 21); answer != refused {
		t.Fatalf("21 coins at once: %d", answer)
	}
	left := p.g.d.tickets.Capacity - 10*coin
	if answer, _ := p.pay('T', orderID(22), uint64(left)); answer != refused {
		t.Fatalf("all that is left, and the fee: %d", answer)
	}
	tickets.Store(true)
	p.paying('P', orderID(20), 1)
	until(t, "two settlements", func() bool { coins, _ := p.g.look(); return coins.Settlements == 2 })
	if id := payword.SettlementID(p.g.d.coins.ID(), 1); p.heard(settled, id) != 1 {
		t.Errorf("the device was told of settlement 1 %d times", p.heard(settled, id))
	}
}

// The payee asks to close; the device signs what it has stamped, and pays no more.
func TestTheDeviceLetsTheChannelClose(t *testing.T) {
	p := newPair(t, 16, 64, 20, 10)
	p.on(-1)
	p.paying('T', orderID(1), 1_500_000)
	until(t, "stamped", func() bool { return p.heard(paid, orderID(1)) == 1 })
	closeChannel(t, p)
	if answer, _ := p.pay('T', orderID(2), 1000); answer != refused {
		t.Errorf("after the closing: %d", answer)
	}
	p.kill()
	p.on(-1)
	if answer, _ := p.pay('T', orderID(2), 1000); answer != refused {
		t.Errorf("after the closing, and a power cut: %d", answer)
	}
}

// When a channel is used up the operator funds another. The device goes on where
// it was with the rest; but not while a settlement is under way, because nobody
// would know whether the old channel has paid it.
func TestAnotherTicketChannel(t *testing.T) {
	p := newPair(t, 17, 64, 20, 10)
	p.on(-1)
	for i := range uint64(20) {
		p.paying('P', orderID(i), 1)
	}
	until(t, "settled", func() bool { return p.heard(settled, payword.SettlementID(p.g.d.coins.ID(), 2)) == 1 })
	p.paying('P', orderID(20), 1) // and so what is settled is in flash
	p.kill()
	next := *p.g.d
	second := newTerms(t, newChaos(18), 64, 20, 10)
	second.key, second.gateway = next.key, next.gateway
	next.tickets, next.index = second.fund(t, newChaos(19)), second.index
	p.commission(&next)
	p.message = func([]byte) {} // this gateway does not know the new channel
	p.start(-1)
	if answer, _ := p.pay('P', orderID(20), 1); answer != promised && answer != done {
		t.Errorf("the coins' channel has forgotten order 20: %d", answer)
	}
	if answer, _ := p.pay('T', orderID(30), 1000); answer != wait {
		t.Errorf("the new channel is not opening: %d", answer)
	}
	p.kill()
	p.commission(p.g.d)
	var settling atomic.Bool // the device has promised a ticket, which is lost
	p.message = func(b []byte) {
		if binary.BigEndian.Uint16(b) == 0x810b {
			settling.Store(true)
			return
		}
		p.g.take(b)
	}
	p.on(-1)
	for i := range uint64(10) {
		p.paying('P', orderID(40+i), 1)
	}
	until(t, "a settlement", settling.Load)
	p.kill()
	p.commission(&next)
	p.start(-1)
	until(t, "it stops", func() bool {
		select {
		case <-p.exited:
			return true
		default:
			return false
		}
	})
	if !bytes.Contains(p.stderr.Bytes(), []byte("refuses")) {
		t.Errorf("the device starts with another channel while a settlement is under way: %s", p.stderr)
	}
}

func TestGoodsAreHandedOnAndAcknowledged(t *testing.T) {
	p := newPair(t, 20, 4, 2, 1)
	said := make(chan []byte, 16)
	p.message = func(b []byte) {
		if b[0] == 0x83 {
			said <- b
		}
	}
	got := make(chan string, 16)
	p.news = func(kind byte, id money.OrderID, what []byte) {
		if kind == goods || kind == declined {
			got <- fmt.Sprintf("%d %v %s", kind, id == orderID(1), what)
		}
	}
	p.start(-1)
	id := orderID(1)
	p.tell('B', id[:], binary.BigEndian.AppendUint64(nil, 300), []byte("reading"))
	if b, want := <-said, (trade.Buy{Order: id, Item: "reading", Units: 300}).Append(nil); !bytes.Equal(b, want) {
		t.Errorf("the device buys with %x, not %x", b, want)
	}
	p.tell('M', trade.Goods{Order: id, Payload: []byte("21.5")}.Append(nil))
	if news := <-got; news != "4 true 21.5" {
		t.Errorf("the program hears %q", news)
	}
	if b, want := <-said, (trade.Got{Order: id}).Append(nil); !bytes.Equal(b, want) {
		t.Errorf("the device answers %x, not %x", b, want)
	}
	p.tell('M', trade.Decline{Order: id, Due: coin, Why: "sold out"}.Append(nil))
	if news := <-got; news != "5 true sold out" {
		t.Errorf("the program hears %q", news)
	}
}
