package rpc_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/engine"
	nanonet "coinop.dev/engine/lattice"
	"coinop.dev/engine/lattice/rpc"
	"coinop.dev/world/store/mem"
)

func secretOf(name string) eddsa.Secret {
	var key [32]byte
	copy(key[:], name)
	return lattice.NewSecret(key)
}

// network needs four tries for a receive and eight for a send.
func network() lattice.Network {
	return lattice.NewNetwork("a shop's", secretOf("genesis"), lattice.MaxRaw, 0xe000000000000000, 0xc000000000000000)
}

// A world is a node that is all representatives, behind RPC.
type world struct {
	*testing.T
	node    *nanonet.Node
	machine *engine.Machine
	server  *rpc.Server
	http    *httptest.Server
	ws      *httptest.Server
	cut     chan func() // one for each WebSocket: it cuts the line
}

func newMachine(t testing.TB) *engine.Machine {
	t.Helper()
	key, err := keys.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := engine.New(context.Background(), engine.Options{Key: key, DB: db})
	t.Cleanup(func() { m.Close() })
	return m
}

func newWorld(t *testing.T, o rpc.Options) *world {
	t.Helper()
	return newWorldOf(t, o, nanonet.Options{
		Config: node.Config{Network: network(), ID: secretOf("id"), Reps: []eddsa.Secret{secretOf("genesis")}},
	})
}

func newWorldOf(t *testing.T, o rpc.Options, of nanonet.Options) *world {
	t.Helper()
	w := &world{T: t, machine: newMachine(t), cut: make(chan func(), 100)}
	var err error
	w.node, err = nanonet.Open(t.Context(), w.machine, of)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.node.Close() })
	o.Node = w.node
	if w.server, err = rpc.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.server.Close() })
	w.http, w.ws = httptest.NewServer(w.server), httptest.NewServer(http.HandlerFunc(w.serveSocket))
	t.Cleanup(w.http.Close)
	t.Cleanup(w.ws.Close)
	return w
}

func (w *world) serveSocket(out http.ResponseWriter, in *http.Request) {
	ctx, cancel := context.WithCancel(in.Context())
	w.cut <- cancel
	w.server.Socket().ServeHTTP(out, in.WithContext(ctx))
}

// ask says what a client gets for its words.
func (w *world) ask(body string) string {
	w.Helper()
	r, err := http.Post(w.http.URL, "application/json", strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 {
		w.Fatalf("%s: %v", r.Status, err)
	}
	return string(b)
}

// askFor decodes the answer, which must be none of an error.
func (w *world) askFor(body string) map[string]any {
	w.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(w.ask(body)), &v); err != nil {
		w.Fatal(err)
	}
	if v["error"] != nil {
		w.Fatalf("%s: %s", body, v["error"])
	}
	return v
}

// A purse makes the blocks of one account, and has them processed.
type purse struct {
	w      *world
	secret eddsa.Secret
	last   lattice.Block
	head   lattice.Hash
}

func (w *world) purse(name string) *purse {
	p := &purse{w: w, secret: secretOf(name)}
	p.last.Account = p.secret.Public()
	p.last.Representative = secretOf("genesis").Public()
	if n := network(); name == "genesis" {
		p.last, p.head = n.Genesis, n.Genesis.Hash()
	}
	return p
}

func (p *purse) key() lattice.Key { return p.secret.Public() }

func (p *purse) next(balance lattice.Raw, link [32]byte) lattice.Block {
	b := p.last
	b.Previous, b.Balance, b.Link = p.head, balance, link
	b.Work = lattice.Work(b.Root(), network().WorkSend, 0)
	b.Sign(p.secret)
	p.last, p.head = b, b.Hash()
	return b
}

func (p *purse) send(amount lattice.Raw, to lattice.Key) lattice.Block {
	balance, _ := p.last.Balance.Sub(amount)
	return p.next(balance, to)
}

func (p *purse) receive(amount lattice.Raw, source lattice.Hash) lattice.Block {
	balance, _ := p.last.Balance.Add(amount)
	return p.next(balance, source)
}

// said is a block in Nano's JSON.
func said(b *lattice.Block) string {
	return fmt.Sprintf(`{"type":"state","account":"%s","previous":"%s","representative":"%s","balance":"%s","link":"%X","signature":"%X","work":"%016x"}`,
		b.Account, b.Previous, b.Representative, b.Balance, b.Link, b.Signature, b.Work)
}

// process has a block processed and cemented.
func (w *world) process(b lattice.Block) {
	w.Helper()
	w.askFor(`{"action":"process","json_block":"true","block":` + said(&b) + `}`)
	h := b.Hash()
	for range 500 {
		if w.askFor(`{"action":"block_info","hash":"` + h.String() + `"}`)["confirmed"] == "true" {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.Fatalf("block %s is not cemented after 2.5 s", h)
}

// A shop opens its account by what a customer sends, and everything that a wallet
// asks on the way is answered as Nano's node answers it.
func TestShop(t *testing.T) {
	w := newWorld(t, rpc.Options{})
	bank, shop := w.purse("genesis"), w.purse("shop")
	g, s := bank.key().String(), shop.key().String()
	genesis := bank.head.String()
	zeros := strings.Repeat("0", 64)

	is := func(question, answer string) {
		t.Helper()
		if got := w.ask(question); got != answer {
			t.Errorf("%s\n  is answered %s\n          not %s", question, got, answer)
		}
	}
	is(`{"action":"account_info","account":"`+s+`"}`, `{"error":"Account not found"}`)
	is(`{"action":"account_balance","account":"`+s+`"}`, `{"balance":"0","pending":"0","receivable":"0"}`)
	is(`{"action":"receivable","account":"`+s+`","count":"5"}`, `{"blocks":""}`)

	send := bank.send(lattice.RawOf(700), shop.key())
	h := send.Hash().String()
	w.process(send)
	is(`{"action":"receivable","account":"`+s+`","count":"5"}`, `{"blocks":["`+h+`"]}`)
	is(`{"action":"receivable","account":"`+s+`","threshold":"1"}`, `{"blocks":{"`+h+`":"700"}}`)
	is(`{"action":"receivable","account":"`+s+`","threshold":"701"}`, `{"blocks":""}`)
	is(`{"action":"receivable","account":"`+s+`","source":"true"}`, `{"blocks":{"`+h+`":{"amount":"700","source":"`+g+`"}}}`)
	is(`{"action":"pending","account":"`+s+`"}`, `{"deprecated":"1","blocks":["`+h+`"]}`)
	is(`{"action":"accounts_receivable","accounts":["`+s+`","`+g+`"],"count":"1"}`, `{"blocks":{"`+s+`":["`+h+`"]}}`)
	is(`{"action":"receivable_exists","hash":"`+h+`"}`, `{"exists":"1"}`)
	is(`{"action":"account_balance","account":"`+s+`"}`, `{"balance":"0","pending":"700","receivable":"700"}`)

	open := shop.receive(lattice.RawOf(700), send.Hash())
	w.process(open)
	o := open.Hash().String()
	is(`{"action":"receivable_exists","hash":"`+h+`"}`, `{"exists":"0"}`)
	is(`{"action":"account_balance","account":"`+s+`"}`, `{"balance":"700","pending":"0","receivable":"0"}`)
	is(`{"action":"accounts_balances","accounts":["`+s+`","nano_1bad"]}`,
		`{"balances":{"`+s+`":{"balance":"700","pending":"0","receivable":"0"}},"errors":{"nano_1bad":"Bad account number"}}`)
	is(`{"action":"accounts_frontiers","accounts":["`+s+`"]}`, `{"frontiers":{"`+s+`":"`+o+`"}}`)
	is(`{"action":"account_representative","account":"`+s+`"}`, `{"representative":"`+g+`"}`)
	is(`{"action":"accounts_representatives","accounts":["`+s+`"]}`, `{"representatives":{"`+s+`":"`+g+`"}}`)
	is(`{"action":"account_block_count","account":"`+s+`"}`, `{"block_count":"1"}`)
	is(`{"action":"account_weight","account":"`+g+`"}`, `{"weight":"`+lattice.MaxRaw.String()+`"}`)
	is(`{"action":"block_count"}`, `{"count":"3","unchecked":"0","cemented":"3"}`)
	is(`{"action":"account_count"}`, `{"count":"2"}`)
	is(`{"action":"block_account","hash":"`+o+`"}`, `{"account":"`+s+`"}`)
	is(`{"action":"chain","block":"`+h+`","count":"-1"}`, `{"error":"Invalid count"}`)
	is(`{"action":"chain","block":"`+h+`","count":"10"}`, `{"blocks":["`+h+`","`+genesis+`"]}`)
	is(`{"action":"successors","block":"`+genesis+`","count":"10","offset":"1"}`, `{"blocks":["`+h+`"]}`)
	is(`{"action":"available_supply"}`, `{"available":"700"}`)
	is(`{"action":"representatives"}`, `{"representatives":{"`+g+`":"`+lattice.MaxRaw.String()+`"}}`)
	is(`{"action":"representatives_online"}`, `{"representatives":["`+g+`"]}`)
	is(`{"action":"block_hash","json_block":"true","block":`+said(&open)+`}`, `{"hash":"`+o+`"}`)
	is(`{"action":"process","json_block":"true","block":`+said(&open)+`}`, `{"error":"Old block"}`)
	quoted, _ := json.Marshal(said(&open))
	is(`{"action":"process","block":`+string(quoted)+`}`, `{"error":"Old block"}`)

	info := w.askFor(`{"action":"account_info","account":"` + s + `","representative":"true","weight":"true","receivable":"true","include_confirmed":"true"}`)
	for name, want := range map[string]string{
		"frontier": o, "open_block": o, "representative_block": o, "balance": "700", "confirmed_balance": "700", "block_count": "1",
		"account_version": "2", "confirmed_height": "1", "confirmed_frontier": o, "representative": g, "confirmed_representative": g,
		"weight": "0", "receivable": "0", "confirmed_receivable": "0",
	} {
		if info[name] != want {
			t.Errorf("account_info has %s %v, not %s", name, info[name], want)
		}
	}
	entry := func(question string) map[string]any {
		t.Helper()
		found, ok := w.askFor(question)["history"].([]any)
		if !ok || len(found) != 1 {
			t.Fatalf("%s: %v", question, found)
		}
		return found[0].(map[string]any)
	}
	earned := entry(`{"action":"account_history","account":"` + s + `","count":"10"}`)
	if earned["type"] != "receive" || earned["account"] != g || earned["amount"] != "700" || earned["hash"] != o || earned["height"] != "1" || earned["confirmed"] != "true" {
		t.Errorf("the shop's history is %v", earned)
	}
	raw := entry(`{"action":"account_history","account":"` + s + `","count":10,"raw":true}`)
	if raw["type"] != "state" || raw["subtype"] != "receive" || raw["link"] != h || raw["previous"] != zeros || raw["work"] == nil {
		t.Errorf("the shop's raw history is %v", raw)
	}
	paid := w.askFor(`{"action":"account_history","account":"` + g + `","count":"1"}`)
	if first := paid["history"].([]any)[0].(map[string]any); first["type"] != "send" || first["account"] != s || paid["previous"] != genesis {
		t.Errorf("the bank's history is %v", paid)
	}
	b := w.askFor(`{"action":"blocks_info","json_block":"true","include_not_found":"true","source":"true","hashes":["` + o + `","` + zeros + `"]}`)
	if one := b["blocks"].(map[string]any)[o].(map[string]any); one["source_account"] != g || one["subtype"] != "receive" ||
		one["contents"].(map[string]any)["link_as_account"] != lattice.Key(open.Link).String() || b["blocks_not_found"].([]any)[0] != zeros {
		t.Errorf("blocks_info is %v", b)
	}
	if q := w.askFor(`{"action":"confirmation_quorum"}`); q["online_weight_quorum_percent"] != "67" || q["quorum_delta"] == "0" {
		t.Errorf("quorum is %v", q)
	}
	if hist := w.askFor(`{"action":"confirmation_history"}`); hist["confirmation_stats"].(map[string]any)["count"] != "2" {
		t.Errorf("history of elections is %v", hist)
	}
	if v := w.askFor(`{"action":"telemetry"}`); v["cemented_count"] != "3" || v["node_id"] != lattice.Key(secretOf("id").Public()).Node() {
		t.Errorf("telemetry is %v", v)
	}
	if v := w.askFor(`{"action":"version"}`); v["protocol_version"] != "21" || v["network_identifier"] != genesis {
		t.Errorf("version is %v", v)
	}
}

// What a client says wrongly is answered in Nano's words.
func TestFaults(t *testing.T) {
	w := newWorld(t, rpc.Options{})
	bank := w.purse("genesis")
	g := bank.key().String()
	send := bank.send(lattice.RawOf(1), w.purse("shop").key())
	forged, lazy := send, send
	forged.Signature[0] ^= 1
	for lazy.Work = 0; lattice.WorkValue(lazy.Root(), lazy.Work) >= network().WorkReceive; lazy.Work++ {
	}
	far := send
	far.Previous = lattice.Hash{1}
	far.Work = lattice.Work(far.Root(), network().WorkSend, 0)
	far.Sign(bank.secret)
	process := func(b lattice.Block, more string) string {
		return `{"action":"process",` + more + `"json_block":"true","block":` + said(&b) + `}`
	}
	for question, want := range map[string]string{
		``:                          "Unable to parse JSON",
		`[]`:                        "Unable to parse JSON",
		`{"action":"version"} {}`:   "Unable to parse JSON",
		`{"action":["version"]}`:    "Unable to parse JSON",
		`{"action":"account_info"}`: "Unable to parse JSON",
		`{"action":"make_coffee"}`:  "Unknown command",
		`{"action":"account_info","account":"nano_1"}`:                     "Bad account number",
		`{"action":"block_info","hash":"12"}`:                              "Invalid block hash",
		`{"action":"block_info","hash":"` + strings.Repeat("A", 64) + `"}`: "Block not found",
		`{"action":"account_history","account":"` + g + `"}`:               "Unable to parse JSON",
		`{"action":"account_history","account":"` + g + `","count":"0"}`:   "Invalid count",
		`{"action":"receivable","account":"` + g + `","threshold":"-1"}`:   "Bad threshold number",
		`{"action":"stop"}`:                                                           "RPC control is disabled",
		`{"action":"wallet_create"}`:                                                  "RPC control is disabled",
		`{"action":"block_create","type":"state"}`:                                    "RPC control is disabled",
		`{"action":"work_generate","hash":"` + strings.Repeat("A", 64) + `"}`:         "RPC control is disabled",
		process(send, `"force":"true",`):                                              "RPC control is disabled",
		process(forged, ""):                                                           "Bad signature",
		process(lazy, ""):                                                             "Block work is less than threshold",
		process(far, ""):                                                              "Gap previous block",
		process(send, `"subtype":"receive",`):                                         "Invalid block balance for given subtype",
		process(send, `"subtype":"change",`):                                          "Invalid block balance for given subtype",
		process(send, `"subtype":"open",`):                                            "Invalid previous block for given subtype",
		process(send, `"subtype":"gift",`):                                            "Invalid block subtype",
		process(far, `"subtype":"send",`):                                             "Gap previous block",
		`{"action":"process","block":"no block"}`:                                     "Block is invalid",
		`{"action":"process","json_block":"true","block":{"type":"send"}}`:            "Invalid block type",
		`{"action":"nano_to_raw","amount":"340282367"}`:                               "Amount too big",
		`{"action":"nano_to_raw","amount":"1.5"}`:                                     "Invalid amount number",
		`{"action":"deterministic_key","seed":"00","index":"0"}`:                      "Bad seed",
		`{"action":"confirmation_info","root":"` + strings.Repeat("0", 128) + `"}`:    "Active confirmation not found",
		`{"action":"confirmation_info","root":"0"}`:                                   "Invalid root hash",
		`{"action":"telemetry","address":"::1","port":"7075"}`:                        "Peer not found",
		`{"action":"certificate","hash":"` + strings.Repeat("A", 64) + `"}`:           "Block not found",
		`{"action":"blocks_info","hashes":[` + strings.Repeat(`"A",`, 1000) + `"A"]}`: "Too many accounts or hashes: 1000 are the limit",
		strings.Repeat(`[`, 21):                                                       "Max JSON depth exceeded",
		`{"action":"` + strings.Repeat("a", rpc.MaxBody) + `"}`:                       "Unable to parse JSON",
	} {
		if got := w.ask(question); got != `{"error":"`+want+`"}` {
			t.Errorf("%.100s is answered %s, not %q", question, got, want)
		}
	}
	for _, url := range []string{w.http.URL, w.ws.URL} {
		page, err := http.NewRequest(http.MethodPost, url, strings.NewReader(`{"action":"version"}`))
		if err != nil {
			t.Fatal(err)
		}
		page.Header.Set("Origin", "http://evil.example")
		r, err := http.DefaultClient.Do(page)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(r.Body); !strings.Contains(string(b), "Requests of web sites are disabled") {
			t.Errorf("a web site is answered %s", b)
		}
		r.Body.Close()
	}
	r, err := http.Get(w.http.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if b, _ := io.ReadAll(r.Body); string(b) != `{"error":"Can only POST requests"}` {
		t.Errorf("GET is answered %s", b)
	}
}

// Keys and amounts, from Nano's documents (vectors of shared/vectors/nano.json).
func TestKeysAndAmounts(t *testing.T) {
	w := newWorld(t, rpc.Options{})
	zeros := strings.Repeat("0", 64)
	const first = `{"private":"9F0E444C69F77A49BD0BE89DB92C38FE713E0963165CCA12FAF5712D7657120F","public":"C008B814A7D269A1FA3C6528B19201A24D797912DB9996FF02A1FF356E45552B","account":"nano_3i1aq1cchnmbn9x5rsbap8b15akfh7wj7pwskuzi7ahz8oq6cobd99d4r3b7"}`
	for question, want := range map[string]string{
		`{"action":"deterministic_key","seed":"` + zeros + `","index":"0"}`:                                                  first,
		`{"action":"key_expand","key":"781186FB9EF17DB6E3D1056550D9FAE5D5BBADA6A6BC370E4CBB938B1DC71DA3"}`:                   `{"private":"781186FB9EF17DB6E3D1056550D9FAE5D5BBADA6A6BC370E4CBB938B1DC71DA3","public":"3068BB1CA04525BB0E416C485FE6A67FD52540227D267CC8B6E8DA958A7FA039","account":"nano_1e5aqegc1jb7qe964u4adzmcezyo6o146zb8hm6dft8tkp79za3sxwjym5rx"}`,
		`{"action":"account_get","key":"` + zeros + `"}`:                                                                     `{"account":"nano_1111111111111111111111111111111111111111111111111111hifc8npp"}`,
		`{"action":"account_key","account":"xrb_1111111111111111111111111111111111111111111111111111hifc8npp"}`:              `{"key":"` + zeros + `"}`,
		`{"action":"validate_account_number","account":"nano_3e3j5tkog48pnny9dmfzj1r16pg8t1e76dz5tmac6iq689wyjfpiij4txtd1"}`: `{"valid":"0"}`,
		`{"action":"validate_account_number","account":"nano_3e3j5tkog48pnny9dmfzj1r16pg8t1e76dz5tmac6iq689wyjfpiij4txtdo"}`: `{"valid":"1"}`,
		`{"action":"nano_to_raw","amount":"2"}`:                                                                              `{"amount":"2000000000000000000000000000000"}`,
		`{"action":"raw_to_nano","amount":"2999999999999999999999999999999"}`:                                                `{"amount":"2"}`,
	} {
		if got := w.ask(question); got != want {
			t.Errorf("%s is answered %s, not %s", question, got, want)
		}
	}
	v := w.askFor(`{"action":"work_validate","work":"2bf29ef00786a6bc","hash":"718CC2121C3E641059BC1C2CFC45666C99E8AE922F7A807B7D07B62C995D79E2","difficulty":"ffffffffffffffff"}`)
	if v["difficulty"] != "ffffffd21c3933f4" || v["valid"] != "0" || v["valid_all"] != "1" || v["valid_receive"] != "1" {
		t.Errorf("work is %v", v)
	}
	a := w.askFor(`{"action":"key_create"}`)
	if e := w.askFor(fmt.Sprintf(`{"action":"key_expand","key":"%s"}`, a["private"])); a["private"] == first || e["account"] != a["account"] {
		t.Errorf("key %v expands to %v", a, e)
	}
}

// Who may, has the node do the work, and sign.
func TestWorkAndControl(t *testing.T) {
	w := newWorld(t, rpc.Options{Work: true})
	root := strings.Repeat("AB", 32)
	v := w.askFor(`{"action":"work_generate","hash":"` + root + `"}`)
	if v["hash"] != root || w.askFor(fmt.Sprintf(`{"action":"work_validate","hash":"%s","work":"%s"}`, root, v["work"]))["valid_all"] != "1" {
		t.Errorf("work is %v", v)
	}
	for more, want := range map[string]string{
		`,"difficulty":"ffffffffffffffff"`: "Difficulty above config limit or below publish threshold",
		`,"difficulty":"0000000000000001"`: "Difficulty above config limit or below publish threshold",
		`,"multiplier":"1000"`:             "Difficulty above config limit or below publish threshold",
		`,"multiplier":"-1"`:               "Bad multiplier",
		`,"difficulty":"x"`:                "Bad difficulty",
		`,"version":"work_2"`:              "Bad work version",
	} {
		if got := w.ask(`{"action":"work_generate","hash":"` + root + `"` + more + `}`); got != `{"error":"`+want+`"}` {
			t.Errorf("%s is answered %s", more, got)
		}
	}

	w = newWorld(t, rpc.Options{Control: true, MaxWork: 0xffffffffffffffff})
	answer := make(chan string)
	go func() {
		answer <- w.ask(`{"action":"work_generate","difficulty":"ffffffffffffffff","hash":"` + root + `"}`)
	}()
	for stopped := false; !stopped; {
		w.ask(`{"action":"work_cancel","hash":"` + root + `"}`)
		select {
		case got := <-answer:
			if stopped = true; got != `{"error":"Cancelled"}` {
				t.Errorf("cancelled work is %s", got)
			}
		case <-time.After(5 * time.Millisecond):
		}
	}

	bank := w.purse("genesis")
	balance, _ := lattice.MaxRaw.Sub(lattice.RawOf(5))
	private := bank.secret.Reveal()
	made := w.askFor(fmt.Sprintf(`{"action":"block_create","json_block":"true","type":"state","key":"%X","previous":"%s","representative":"%s","balance":"%s","link":"%s"}`,
		private, bank.head, bank.key(), balance, w.purse("shop").key()))
	block, _ := json.Marshal(made["block"])
	if done := w.askFor(`{"action":"process","json_block":"true","subtype":"send","block":` + string(block) + `}`); done["hash"] != made["hash"] {
		t.Errorf("%v was made, and %v processed", made, done)
	}
}

// The certificate of a cemented block convinces who knows the weights alone.
func TestCertificate(t *testing.T) {
	w := newWorld(t, rpc.Options{})
	b := w.purse("genesis").send(lattice.RawOf(5), w.purse("shop").key())
	w.process(b)
	v := w.askFor(`{"action":"certificate","weights":"true","hash":"` + b.Hash().String() + `"}`)
	proof, err := lattice.DecodeCertificate(unhex(t, v["certificate"]))
	if err != nil {
		t.Fatal(err)
	}
	table, err := lattice.DecodeWeights(unhex(t, v["weights"]))
	if err != nil {
		t.Fatal(err)
	}
	if err := proof.Verify(table); err != nil || proof.Hash != b.Hash() {
		t.Errorf("certificate of %s: %v", proof.Hash, err)
	}
}

func unhex(t *testing.T, v any) []byte {
	t.Helper()
	var b []byte
	if _, err := fmt.Sscanf(v.(string), "%x", &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzRequest has anything read in every way that actions read requests.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"action":"account_info","account":"nano_1","count":[1,{"a":true}]}`))
	f.Add([]byte(`{"action":"process","json_block":true,"block":{"type":"state","link":"0"}}`))
	genesis := network().Genesis
	quoted, _ := json.Marshal(said(&genesis))
	f.Add([]byte(`{"block":` + string(quoted) + `}`))
	f.Add([]byte(`{"block":` + said(&genesis) + `}`))
	f.Add([]byte("{\"a\":\"\\\"[[[\"}"))
	f.Fuzz(func(_ *testing.T, body []byte) { rpc.ParseAll(body) })
}
