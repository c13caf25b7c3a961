package rest_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/core/ledger/tangle"
	tanglenet "coinop.dev/engine/tangle"
	"coinop.dev/engine/tangle/rest"
)

var update = flag.Bool("update", false, "write testdata/wallet.golden anew")

var changing = regexp.MustCompile(`("(?:index|timestamp|ledgerIndex|referencedByMilestoneIndex|milestoneIndex\w*|milestoneTimestamp\w*|pruningIndex|whiteFlagIndex|blocksPerSecond|referencedBlocksPerSecond|referencedRate|unconfirmed)":)[0-9.]+`)

// called gives values names, by which they stand in the golden file.
func (w *world) called(pairs ...string) { w.names = append(w.names, pairs...) }

// plain is an answer without what is another every time.
func (w *world) plain(text string) string {
	text = strings.NewReplacer(w.names...).Replace(text)
	return changing.ReplaceAllString(text, "${1}N")
}

// TestWalletGolden: a whole conversation of a wallet and a node, word for word.
func TestWalletGolden(t *testing.T) {
	w := newWorld(t, rest.Options{Version: "1.2.3"})
	var said strings.Builder
	ask := func(what string, headers ...string) answer {
		t.Helper()
		a := w.ask(what, "", headers...)
		fmt.Fprintf(&said, "> %s %s\n< %d %s\n\n", w.plain(what), strings.Join(headers, " "), a.status, w.plain(a.body))
		return a
	}
	rich := addressOf("rich").Bech32("tst")
	tx := w.pay(tangle.GenesisOutput(0), 1000, note, to("shop", 300), to("rich", 700))
	id := tx.ID()
	w.called(rich, "$rich", addressOf("shop").Bech32("tst"), "$shop", id.String(), "$tx")

	ask("GET /api/routes")
	ask("GET /api/core/v2/outputs/" + tangle.GenesisOutput(0).String())
	ask("GET /api/indexer/v1/outputs/basic?address=" + rich)
	a := w.post(object{"protocolVersion": 2, "parents": []string{}, "payload": tx, "nonce": "0"})
	var created struct{ BlockID tangle.BlockID }
	if err := json.Unmarshal([]byte(a.body), &created); err != nil || a.status != 201 || a.header.Get("Location") != created.BlockID.String() {
		t.Fatalf("%+v: %v", a, err)
	}
	settled := w.settled(id)
	if settled.Block != created.BlockID {
		t.Fatalf("block %s was applied, and not %s", settled.Block, created.BlockID)
	}
	raw, err := w.node.Block(t.Context(), settled.Block)
	if err != nil {
		t.Fatal(err)
	}
	block, err := tangle.DecodeBlock(raw)
	if err != nil {
		t.Fatal(err)
	}
	for i, parent := range block.Parents {
		w.called(parent.String(), fmt.Sprint("$parent", i))
	}
	m, c, _, err := w.node.Milestone(t.Context(), settled.Milestone.Index)
	if err != nil {
		t.Fatal(err)
	}
	w.called(settled.Block.String(), "$block", c.ID.String(), "$milestone", m.Previous.String(), "$previous", m.InclusionRoot.String(), "$inclusion",
		m.AppliedRoot.String(), "$applied", fmt.Sprintf("%x", m.Signatures[0].Signature), "$signature")
	for i, parent := range m.Parents {
		w.called(parent.String(), fmt.Sprint("$merged", i))
	}
	w.called("/"+strconv.Itoa(int(m.Index)), "/$index")

	ask("GET /api/core/v2/blocks/" + created.BlockID.String())
	ask("GET /api/core/v2/blocks/" + created.BlockID.String() + "/metadata")
	ask("GET /api/core/v2/transactions/" + id.String() + "/included-block")
	ask("GET /api/core/v2/transactions/" + id.String() + "/included-block/metadata")
	ask("GET /api/core/v2/outputs/" + tangle.GenesisOutput(0).String())
	ask("GET /api/core/v2/outputs/" + tangle.NewOutputID(id, 1).String())
	ask("GET /api/core/v2/outputs/" + tangle.NewOutputID(id, 1).String() + "/metadata")
	ask("GET /api/indexer/v1/outputs/basic?address=" + rich)
	ask("GET /api/indexer/v1/outputs/basic?hasTimelock=true&address=" + rich)
	ask(fmt.Sprintf("GET /api/core/v2/milestones/by-index/%d/utxo-changes", m.Index))
	ask("GET /api/core/v2/milestones/" + c.ID.String() + "/utxo-changes")
	ask("GET /api/core/v2/milestones/" + c.ID.String())
	ask("GET /api/coinop/v1/addresses/" + rich)
	ask("GET /api/coinop/v1/transactions/" + id.String() + "/proof")
	ask("GET /api/core/v2/treasury")
	ask("GET /api/core/v2/peers")

	for path, want := range map[string][]byte{
		"blocks/" + settled.Block.String():                  raw,
		"transactions/" + id.String() + "/included-block":   raw,
		"outputs/" + tangle.NewOutputID(id, 0).String():     to("shop", 300).Append(nil),
		"milestones/" + c.ID.String():                       m.Append(nil),
		"milestones/by-index/" + strconv.Itoa(int(m.Index)): m.Append(nil),
	} {
		a := w.ask("GET /api/core/v2/"+path, "", "Accept: "+binary)
		if a.body != string(want) || a.header.Get("Content-Type") != binary {
			t.Errorf("%s: %x", path, a.body)
		}
	}
	golden(t, said.String())
}

func golden(t *testing.T, got string) {
	t.Helper()
	const file = "testdata/wallet.golden"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	gots, wants := strings.Split(got, "\n\n"), strings.Split(string(want), "\n\n")
	for i := range max(len(gots), len(wants)) {
		if i >= len(gots) || i >= len(wants) || gots[i] != wants[i] {
			t.Errorf("exchange %d is\n%s\nand was\n%s", i, at(gots, i), at(wants, i))
		}
	}
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "(nothing)"
}

// TestInfo: what a wallet needs to know before it builds anything.
func TestInfo(t *testing.T) {
	w := newWorld(t, rest.Options{Control: true}, func(o *tanglenet.Options) { o.Config.Network.MinZeros = 3 })
	var info struct {
		Status struct {
			IsHealthy          bool
			ConfirmedMilestone struct {
				Index     uint32
				Timestamp int64
			}
		}
		Protocol struct {
			Version, BelowMaxDepth              int
			NetworkName, Bech32Hrp, TokenSupply string
			MinPowScore                         uint32
		}
		BaseToken rest.Token
		Features  []string
	}
	a := w.ask("GET /api/core/v2/info", "")
	if err := json.Unmarshal([]byte(a.body), &info); err != nil {
		t.Fatal(err)
	}
	p := info.Protocol
	if p.Version != 2 || p.NetworkName != "a shop" || p.Bech32Hrp != "tst" || p.TokenSupply != "1000" || p.BelowMaxDepth != 15 {
		t.Errorf("protocol: %+v", p)
	}
	s := info.Status
	if !s.IsHealthy || s.ConfirmedMilestone.Index == 0 || time.Since(time.Unix(s.ConfirmedMilestone.Timestamp, 0)) > time.Minute {
		t.Errorf("status: %+v", s)
	}
	if len(info.Features) != 1 || info.Features[0] != "pow" || info.BaseToken.Unit != "msat" {
		t.Errorf("%+v", info)
	}
	// Who does as much work as the score says, does enough for any block.
	score := &tangle.Network{MinScore: p.MinPowScore}
	for _, size := range []int{46, 100, 1000, tangle.MaxBlockSize} {
		if has, wants := score.ZerosNeeded(size), w.net.ZerosNeeded(size); has < wants {
			t.Errorf("a block of %d bytes gets %d zeros and needs %d", size, has, wants)
		}
	}
	if a := w.ask("GET /api/core/v2/peers", ""); a.body != "[]" {
		t.Errorf("peers: %s", a.body)
	}
}

// TestFaults: what is wrong is said as Stardust says it, and costs the node nothing.
func TestFaults(t *testing.T) {
	w := newWorld(t, rest.Options{})
	tx := w.pay(tangle.GenesisOutput(0), 1000, nil, to("shop", 1000))
	forged := w.pay(tangle.GenesisOutput(0), 1000, nil, to("shop", 1000))
	unlock := forged.Unlocks[0].(tangle.SignatureUnlock)
	unlock.Signature[3] ^= 1
	forged.Unlocks[0] = unlock
	zero := strings.Repeat("00", 32)
	loose := object{"protocolVersion": 2, "payload": tx}
	for _, c := range []struct {
		what, body, form string
		status           int
		says             string
	}{
		{"GET /api/core/v2/blocks/0x12", "", "", 400, "0x and 64 hex digits"},
		{"GET /api/core/v2/blocks/0x" + zero, "", "", 404, "not found"},
		{"GET /api/core/v2/blocks/0x" + zero + "/metadata", "", "", 404, "not found"},
		{"GET /api/core/v2/outputs/0x" + zero, "", "", 400, "68 hex digits"},
		{"GET /api/core/v2/outputs/0x" + zero + "0100", "", "", 404, "not found"},
		{"GET /api/core/v2/transactions/0x" + zero[:62] + "01/included-block", "", "", 404, "not found"},
		{"GET /api/core/v2/milestones/by-index/4000000000", "", "", 404, "not found"},
		{"GET /api/core/v2/milestones/by-index/-1", "", "", 400, "neither an index nor an ID"},
		{"GET /api/core/v2/milestones/0x" + zero, "", "", 404, "not found"},
		{"GET /api/core/v2/milestones/1/else", "", "", 404, "not found"},
		{"GET /api/core/v2/whiteflag", "", "", 404, "not found"},
		{"DELETE /api/core/v2/peers/x", "", "", 404, "not found"},
		{"GET /api/core/v2/peers", "", "", 403, "does not tell"},
		{"GET /api/indexer/v1/outputs/basic", "", "", 400, "address is missing"},
		{"GET /api/indexer/v1/outputs/basic?address=iota1qqqq", "", "", 400, "not bech32"},
		{"GET /api/indexer/v1/outputs/basic?address=" + addressOf("a").Bech32("tst") + "&colour=red", "", "", 400, "filter"},
		{"GET /api/indexer/v1/outputs/basic?expirationReturnAddress=x&expiresBefore=7", "", "", 200, `"items":[]`},
		{"GET /api/indexer/v1/outputs/basic?hasTimelock=maybe", "", "", 400, "maybe"},
		{"GET /api/indexer/v1/outputs/basic?createdAfter=noon", "", "", 400, "Unix time"},
		{"GET /api/indexer/v1/outputs/basic?createdAfter=7&address=" + addressOf("rich").Bech32("tst"), "", "", 200, `"items":[]`},
		{"GET /api/indexer/v1/outputs/basic?createdBefore=7&hasTimelock=false&address=" + addressOf("rich").Bech32("tst"), "", "", 200, `"items":["0x0`},
		{"GET /api/indexer/v1/outputs/basic?address=" + addressOf("a").Bech32("tst") + "&pageSize=0", "", "", 400, "pageSize"},
		{"GET /api/indexer/v1/outputs/basic?address=" + addressOf("a").Bech32("tst") + "&cursor=0x00.5", "", "", 400, "output ID"},
		{"GET /api/indexer/v1/outputs/nft", "", "", 404, "not found"},
		{"GET /api/coinop/v1/addresses/nobody", "", "", 400, "not bech32"},
		{"GET /api/coinop/v1/transactions/" + tx.ID().String() + "/proof", "", "", 404, "no milestone has applied"},
		{"POST /api/core/v2/blocks", "{}", "text/plain", 415, "content type"},
		{"POST /api/core/v2/blocks", "{}", "application/json", 400, "protocolVersion is missing"},
		{"POST /api/core/v2/blocks", `{"protocolVersion":1}`, "application/json", 400, "only 2 is spoken"},
		{"POST /api/core/v2/blocks", `{"protocolVersion":2,"payload":{"type":8}}`, "application/json", 400, "5, 6 and 7"},
		{"POST /api/core/v2/blocks", `{"protocolVersion":2,"nonce":"5"}`, "application/json", 400, "a nonce and no parents"},
		{"POST /api/core/v2/blocks", `{"protocolVersion":2,"parents":["0x` + zero[:62] + `01"]}`, "application/json", 400, "parents that this node does not know"},
		{"POST /api/core/v2/blocks", strings.Repeat(" ", tangle.MaxJSON+1), "application/json", 400, "at most"},
		{"POST /api/core/v2/blocks", strings.Repeat(" ", tangle.MaxBlockSize+1), binary, 400, "at most"},
		{"POST /api/core/v2/blocks", "\x02", binary, 400, "invalid block"},
		{"POST /api/core/v2/blocks", jsonOf(t, object{"protocolVersion": 2, "payload": forged}), "application/json", 400, `"refusal":"The transaction breaks`},
		{"POST /api/core/v2/blocks", jsonOf(t, loose), "application/json", 201, "blockId"},
		{"POST /api/core/v2/blocks", jsonOf(t, loose), "application/json; charset=utf-8", 201, "blockId"},
	} {
		a := w.ask(c.what, c.body, "Content-Type: "+c.form)
		if a.status != c.status || !strings.Contains(a.body, c.says) {
			t.Errorf("%s %.60s: %d %s; it should be %d and say %q", c.what, c.body, a.status, a.body, c.status, c.says)
		}
		if c.status >= 400 && !strings.HasPrefix(a.body, `{"error":{"code":"`+strconv.Itoa(c.status)+`","message":"`) {
			t.Errorf("%s: %s", c.what, a.body)
		}
	}
	w.settled(tx.ID())
	again := w.post(object{"protocolVersion": 2, "payload": w.pay(tangle.GenesisOutput(0), 1000, note, to("thief", 1000))})
	if again.status != 400 || !strings.Contains(again.body, `"refusal":"`+string(tangle.SpentInput)+`"`) {
		t.Errorf("spent twice: %d %s", again.status, again.body)
	}
	if once := w.post(loose); once.status != 201 {
		t.Errorf("handed in again after it was applied: %d %s", once.status, once.body)
	}
}

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestPages: who has many outputs reads them page by page.
func TestPages(t *testing.T) {
	w := newWorld(t, rest.Options{})
	var outputs []tangle.BasicOutput
	for range 100 {
		outputs = append(outputs, to("shop", 10))
	}
	tx := w.pay(tangle.GenesisOutput(0), 1000, note, outputs...)
	if a := w.post(object{"protocolVersion": 2, "payload": tx}); a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.settled(tx.ID())
	shop := addressOf("shop").Bech32("tst")
	seen := map[tangle.OutputID]bool{}
	query, pages := "pageSize=40", 0
	for ; query != ""; pages++ {
		var page struct {
			PageSize int
			Cursor   string
			Items    []tangle.OutputID
		}
		a := w.ask("GET /api/indexer/v1/outputs/basic?address="+shop+"&"+query, "")
		if err := json.Unmarshal([]byte(a.body), &page); err != nil || page.PageSize != 40 {
			t.Fatalf("%s: %v", a.body, err)
		}
		for _, id := range page.Items {
			seen[id] = true
		}
		query = ""
		if page.Cursor != "" {
			query = "cursor=" + page.Cursor
		}
	}
	if len(seen) != 100 || pages != 3 {
		t.Errorf("%d outputs on %d pages", len(seen), pages)
	}
	var state rest.State
	if err := json.Unmarshal([]byte(w.ask("GET /api/coinop/v1/addresses/"+shop, "").body), &state); err != nil {
		t.Fatal(err)
	}
	if len(state.Outputs) != 100 || state.Outputs[99].Note == nil || string(state.Outputs[99].Note.Data) != "order 1" {
		t.Errorf("%d outputs: %+v", len(state.Outputs), state.Outputs[99])
	}
}

// TestShare: a client that asks too much is told to wait.
func TestShare(t *testing.T) {
	var asked, most atomic.Int64
	most.Store(math.MaxInt64)
	w := newWorld(t, rest.Options{AnyOrigin: true, Take: func(network netip.Prefix, _ time.Time) time.Duration {
		if asked.Add(1) > most.Load() && network.Bits() == 32 {
			return time.Second
		}
		return 0
	}})
	most.Store(asked.Load() + 3)
	for range 3 {
		if a := w.ask("GET /api/routes", ""); a.status != 200 || a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Fatalf("%+v", a)
		}
	}
	if a := w.ask("GET /api/routes", ""); a.status != 429 || a.header.Get("Retry-After") == "" {
		t.Errorf("%+v", a)
	}
	if a := w.ask("GET /health", ""); a.status != 429 {
		t.Errorf("health: %+v", a)
	}
}

// FuzzBlock: what a client hands in as a block is read or refused, and what is read
// is written again as it was.
func FuzzBlock(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	b := tangle.Block{Protocol: 2, Parents: make([]tangle.BlockID, 1), Payload: note}
	f.Add(b.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := rest.ReadBlock(raw)
		if err != nil {
			return
		}
		if got := b.Append(nil); string(got) != string(raw) {
			t.Errorf("%x is read as %x", raw, got)
		}
	})
}

// FuzzBlockJSON: the same in JSON.
func FuzzBlockJSON(f *testing.F) {
	f.Add([]byte(`{"protocolVersion":2}`))
	f.Add([]byte(`{"protocolVersion":2,"parents":[],"payload":{"type":5,"tag":"0x00","data":"0x"},"nonce":""}`))
	f.Add([]byte(`{"protocolVersion":2,"parents":["0x` + strings.Repeat("0", 64) + `"],"nonce":"7"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := rest.ReadBlockJSON(raw)
		if err != nil {
			return
		}
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := rest.ReadBlockJSON(text)
		if err != nil || string(again.Append(nil)) != string(b.Append(nil)) {
			t.Errorf("%s is read as %s: %v", raw, text, err)
		}
	})
}

// FuzzWords: topics and questions to the indexer.
func FuzzWords(f *testing.F) {
	f.Add("block-metadata/0x00")
	f.Add("outputs/unlock/address/" + addressOf("shop").Bech32("tst") + "/spent")
	f.Add("transactions//included-block")
	f.Add("address=" + addressOf("shop").Bech32("tst") + "&cursor=0x" + strings.Repeat("0", 68) + ".9&hasExpiration=true")
	f.Fuzz(func(t *testing.T, text string) {
		rest.ReadTopic(text, "tst")
		if size, err := rest.ReadPage(text, "tst"); err == nil && (size < 1 || size > rest.MaxPage) {
			t.Errorf("%q asks for %d outputs", text, size)
		}
	})
}
