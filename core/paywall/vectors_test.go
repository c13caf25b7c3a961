package paywall_test

import (
	"encoding/hex"
	"testing"

	"coinop.dev/core/paywall"
)

// From mpp/testdata/vectors.json of github.com/lightninglabs/aperture, commit
// 5f08fa41523fe5c786cabbb8e25bec5edb3d30b8 (canonicalization), and from testdata
// of github.com/cyberphone/json-canonicalization, the RFC's author's (weird,
// values).
var canonical = map[string]struct{ input, want string }{
	"empty object":      {`{}`, `{}`},
	"empty array":       {`[]`, `[]`},
	"member ordering":   {`{"z":1,"m":2,"a":3,"A":4,"10":5,"2":6}`, `{"10":5,"2":6,"A":4,"a":3,"m":2,"z":1}`},
	"surrogate range":   {`{"\ue000":1,"\ud800\udc00":2,"\uffff":3,"\ud7ff":4}`, "{\"\ud7ff\":4,\"\U00010000\":2,\"\ue000\":1,\"\uffff\":3}"},
	"nested":            {`{"b":{"d":1,"c":2},"a":[3,{"f":4,"e":5}]}`, `{"a":[3,{"e":5,"f":4}],"b":{"c":2,"d":1}}`},
	"literals":          {`{"t":true,"f":false,"n":null}`, `{"f":false,"n":null,"t":true}`},
	"ampersand":         {`{"description":"Q&A <b> endpoint"}`, `{"description":"Q&A <b> endpoint"}`},
	"line separators":   {"{\"s\":\"x\u2028y\u2029z\"}", "{\"s\":\"x\u2028y\u2029z\"}"},
	"shorthand escapes": {`{"s":"\b\f\n\r\t"}`, `{"s":"\b\f\n\r\t"}`},
	"control":           {`{"s":"\u0000\u0001\u001f"}`, `{"s":"\u0000\u0001\u001f"}`},
	"delete":            {`{"s":"a/b\u007f"}`, "{\"s\":\"a/b\x7f\"}"},
	"quote":             {`{"s":"he said \"go\" \\ home"}`, `{"s":"he said \"go\" \\ home"}`},
	"non-ascii":         {`{"s":"café あ 😀"}`, `{"s":"café あ 😀"}`},
	"large integers": {`{"a":36028797018963968,"b":1234567890123456789,"c":9007199254740991,"d":9007199254740993}`,
		`{"a":36028797018963970,"b":1234567890123456800,"c":9007199254740991,"d":9007199254740992}`},
	"beyond int64": {`{"a":9.223372036854776e18,"b":-9.223372036854776e18,"c":1e21,"d":-1e21,"e":1e100}`,
		`{"a":9223372036854776000,"b":-9223372036854776000,"c":1e+21,"d":-1e+21,"e":1e+100}`},
	"notation": {`{"a":1e-6,"b":1e-7,"c":1e-10,"d":1e20,"e":1e21,"f":5e-324,"g":1.7976931348623157e308}`,
		`{"a":0.000001,"b":1e-7,"c":1e-10,"d":100000000000000000000,"e":1e+21,"f":5e-324,"g":1.7976931348623157e+308}`},
	"signed zero": {`{"a":0,"b":-0,"c":0.0,"d":-0.0}`, `{"a":0,"b":0,"c":0,"d":0}`},
	"re-rendered": {`{"a":1.0,"b":1e0,"c":1.000e3,"d":0.1,"e":-4.35,"f":1.0000000000000002}`,
		`{"a":1,"b":1,"c":1000,"d":0.1,"e":-4.35,"f":1.0000000000000002}`},
	"charge request": {`{"amount":"100","currency":"sat","description":"Weather report","methodDetails":{"invoice":"lnbc1u1p","paymentHash":"bc230847","network":"mainnet"}}`,
		`{"amount":"100","currency":"sat","description":"Weather report","methodDetails":{"invoice":"lnbc1u1p","network":"mainnet","paymentHash":"bc230847"}}`},
	"session request": {`{"amount":"3","currency":"sat","unitType":"token","depositInvoice":"lnbc500n1p","paymentHash":"aa11bb22","depositAmount":"5000","idleTimeout":"900"}`,
		`{"amount":"3","currency":"sat","depositAmount":"5000","depositInvoice":"lnbc500n1p","idleTimeout":"900","paymentHash":"aa11bb22","unitType":"token"}`},
	"opaque": {`{"tier":"gold & silver","orderId":36028797018963968,"note":"he said \"go\""}`,
		`{"note":"he said \"go\"","orderId":36028797018963970,"tier":"gold & silver"}`},
	"weird": {`{
  "\u20ac": "Euro Sign",
  "1": "One",
  "\u0080": "Control\u007f",
  "\ud83d\ude02": "Smiley",
  "\u00f6": "Latin Small Letter O With Diaeresis",
  "\ufb33": "Hebrew Letter Dalet With Dagesh",
  "</script>": "Browser Challenge"
}`, "{\"1\":\"One\",\"</script>\":\"Browser Challenge\",\"\u0080\":\"Control\u007f\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😂\":\"Smiley\",\"\ufb33\":\"Hebrew Letter Dalet With Dagesh\"}"},
	"values": {`{
  "numbers": [1E30, 4.50, 333333333.33333329, 2e-3, 0.000000000000000000000000001],
  "escaping": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}`, `{"escaping":"€$\u000f\nA'B\"\\\\\"/","literals":[null,true,false],"numbers":[1e+30,4.5,333333333.3333333,0.002,1e-27]}`},
}

func TestCanonical(t *testing.T) {
	for name, v := range canonical {
		got, err := paywall.Canonical([]byte(v.input))
		if err != nil || string(got) != v.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, v.want)
		}
		if again, err := paywall.Canonical(got); err != nil || string(again) != string(got) {
			t.Errorf("%s: canonical text is not its own canonical text: %q, %v", name, again, err)
		}
	}
	for _, bad := range []string{`{"a":`, ``, `{} {}`, `{"a":1e400}`, `nul`} {
		if got, err := paywall.Canonical([]byte(bad)); err == nil {
			t.Errorf("%q is canonically %q", bad, got)
		}
	}
}

// The same file's base64url.
func TestBase64(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "AA": "00", "__4": "fffe", "__79": "fffefd", "aGVsbG8": "68656c6c6f", "-_-_A-__": "fbffbf03efff", "aGVsbG8=": "68656c6c6f",
	} {
		got, err := paywall.Decode64(text)
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%q is %x, %v", text, got, err)
		}
	}
	for _, bad := range []string{"AB", "aGVs\nbG8", "aGVs\rbG8", "a+b/", "aGV=bG8", "aGVsbG8===", "aGVsbG=", "aGVsb", "!!!invalid!!!"} {
		if got, err := paywall.Decode64(bad); err == nil {
			t.Errorf("%q is %x", bad, got)
		}
	}
}

// The same file's challengeIds, and the first of test-vectors/core-hmac-sha256.json
// of github.com/tempoxyz/mpp-specs, commit dff4284f648593026b62123ca083661b85de3288
// (its others have an eighth slot that no draft has yet).
func TestChallengeIDs(t *testing.T) {
	const aperture, mpp = "mpp-test-vector-secret", "test-vector-secret"
	for _, v := range []struct {
		key, slots string
		c          paywall.Challenge
	}{
		{aperture, "api.example.com|lightning|charge|eyJhbW91bnQiOiIxMDAifQ|||", paywall.Challenge{
			ID: "_9D0WlPoPRltxAd6AdpQd6auVOOeQGJ_J8BkGeBE_bU", Realm: "api.example.com", Method: "lightning", Intent: "charge", Request: "eyJhbW91bnQiOiIxMDAifQ"}},
		{aperture, "api.example.com|lightning|session|eyJhbW91bnQiOiIzIn0|2026-03-15T12:05:00Z|sha-256=:X48E9q:|eyJvcmRlcklkIjoiMTIzIn0", paywall.Challenge{
			ID: "Wb8N5-PD4XjMfYGzuuY2bdpsrCQZzkQUX-A_ByIetHw", Realm: "api.example.com", Method: "lightning", Intent: "session", Request: "eyJhbW91bnQiOiIzIn0",
			Expires: "2026-03-15T12:05:00Z", Digest: "sha-256=:X48E9q:", Description: "not covered by the HMAC", Opaque: "eyJvcmRlcklkIjoiMTIzIn0"}},
		{aperture, "a|b|lightning|charge|cQ|||", paywall.Challenge{
			ID: "hE7mzL8ATHSnNdtPSJsxCRkpoUjIlf1sQErzg-VsbAA", Realm: "a|b", Method: "lightning", Intent: "charge", Request: "cQ"}},
		{mpp, "api.example.com|tempo|charge|eyJhbW91bnQiOiIxMDAwMDAwIn0|||", paywall.Challenge{
			ID: "X6v1eo7fJ76gAxqY0xN9Jd__4lUyDDYmriryOM-5FO4", Realm: "api.example.com", Method: "tempo", Intent: "charge", Request: "eyJhbW91bnQiOiIxMDAwMDAwIn0"}},
	} {
		if got := v.c.Slots(); got != v.slots {
			t.Errorf("the slots are %q; want %q", got, v.slots)
		}
		if got := v.c.IDUnder(v.key); got != v.c.ID {
			t.Errorf("the id is %s; want %s", got, v.c.ID)
		}
	}
}

// The same file's challengeHeaders: values of parameters that must be quoted.
func TestChallengeHeaders(t *testing.T) {
	for want, c := range map[string]paywall.Challenge{
		`Payment id="quote-id", realm="api \"quoted\" example", method="lightning", intent="charge", request="cQ", description="say \"hi\""`: {
			ID: "quote-id", Realm: `api "quoted" example`, Method: "lightning", Intent: "charge", Request: "cQ", Description: `say "hi"`},
		`Payment id="backslash-id", realm="a\\b\\\\c", method="lightning", intent="charge", request="cQ"`: {
			ID: "backslash-id", Realm: `a\b\\c`, Method: "lightning", Intent: "charge", Request: "cQ"},
		`Payment id="separator-id", realm="one, two=three", method="lightning", intent="charge", request="cQ", description="Payment id=\"spoofed\""`: {
			ID: "separator-id", Realm: "one, two=three", Method: "lightning", Intent: "charge", Request: "cQ", Description: `Payment id="spoofed"`},
		"Payment id=\"obstext-id\", realm=\"tab\there\", method=\"lightning\", intent=\"charge\", request=\"cQ\", description=\"café über\"": {
			ID: "obstext-id", Realm: "tab\there", Method: "lightning", Intent: "charge", Request: "cQ", Description: "café über"},
		`Payment id="kM9x", realm="api.example.com", method="lightning", intent="session", request="cQ", expires="2026-03-15T12:05:00Z", digest="sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:", description="Inference session", opaque="eyJvcmRlcklkIjoiMTIzIn0"`: {
			ID: "kM9x", Realm: "api.example.com", Method: "lightning", Intent: "session", Request: "cQ", Expires: "2026-03-15T12:05:00Z",
			Digest: "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:", Description: "Inference session", Opaque: "eyJvcmRlcklkIjoiMTIzIn0"},
	} {
		if got := c.Header(); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		if all := challenges(want); len(all) != 1 || all[0] != c {
			t.Errorf("%s is read as %+v", want, all)
		}
	}
}

func challenges(values ...string) (all []paywall.Challenge) {
	for _, o := range paywall.ReadOffers(values) {
		if c, ok := o.Payment(); ok {
			all = append(all, c)
		}
	}
	return all
}

// The same file's challengeLists.
func TestChallengeLists(t *testing.T) {
	one := func(id, intent string) paywall.Challenge {
		return paywall.Challenge{ID: id, Realm: "r", Method: "lightning", Intent: intent, Request: "cQ"}
	}
	both := []paywall.Challenge{one("a", "charge"), one("b", "session")}
	for header, want := range map[string][]paywall.Challenge{
		`Payment id="a", realm="r", method="lightning", intent="charge", request="cQ", Payment id="b", realm="r", method="lightning", intent="session", request="cQ"`:                                                            both,
		`Payment id="a", realm="r", method="lightning", intent="charge", request="cQ",Payment id="b", realm="r", method="lightning", intent="session", request="cQ"`:                                                             both,
		`Payment id="a", realm="r", method="lightning", intent="charge", request="cQ" , , Payment id="b", realm="r", method="lightning", intent="session", request="cQ"`:                                                         both,
		`Basic realm="other", Payment id="a", realm="r", method="lightning", intent="charge", request="cQ", Digest realm="other", intent="bogus", Payment id="b", realm="r", method="lightning", intent="session", request="cQ"`: both,
		`Payment id="a,b", realm="Payment id=c", method="lightning", intent="charge", request="cQ"`:                                                                                                                              {{ID: "a,b", Realm: "Payment id=c", Method: "lightning", Intent: "charge", Request: "cQ"}},
		`payment ID="a", Realm="r", METHOD="lightning", intent="charge", ReQuEsT="cQ"`:                                                                                                                                           both[:1],
		`Payment id=a, realm=r, method=lightning, intent=charge, request=cQ`:                                                                                                                                                     both[:1],
		`Payment id="a", realm="r", method="lightning", intent="charge", request="cQ", id="second", intent="session"`:                                                                                                            both[:1],
		`Payment id="a", realm="r", Payment id="b", realm="r", method="lightning", intent="session", request="cQ"`:                                                                                                               both[1:],
		`Basic realm="other"`:       nil,
		`Payment id="a", realm="r"`: nil,
	} {
		got := challenges(header)
		if len(got) != len(want) {
			t.Errorf("%s has %d challenges", header, len(got))
			continue
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s\nis read as %+v", header, got[i])
			}
		}
	}
}

// The same file's credentials, receipts included.
func TestCredentials(t *testing.T) {
	const charge = "eyJjaGFsbGVuZ2UiOnsiaWQiOiJrTTl4UHFXdlQybkpySHNZNGFEZkViIiwicmVhbG0iOiJhcGkuZXhhbXBsZS5jb20iLCJtZXRob2QiOiJsaWdodG5pbmciLCJpbnRlbnQiOiJjaGFyZ2UiLCJyZXF1ZXN0IjoiZXlKaGJXOTFiblFpT2lJeE1EQWlmUSIsImV4cGlyZXMiOiIyMDI2LTAzLTE1VDEyOjA1OjAwWiJ9LCJwYXlsb2FkIjp7InByZWltYWdlIjoiYTNmMWUyZDRiNWM2YTdlOCJ9fQ"
	const bearer = "eyJjaGFsbGVuZ2UiOnsiaWQiOiJiZWFyZXItY2hhbGxlbmdlIiwicmVhbG0iOiJhcGkuZXhhbXBsZS5jb20iLCJtZXRob2QiOiJsaWdodG5pbmciLCJpbnRlbnQiOiJzZXNzaW9uIiwicmVxdWVzdCI6ImV5SmhiVzkxYm5RaU9pSXpJbjAifSwicGF5bG9hZCI6eyJhY3Rpb24iOiJiZWFyZXIiLCJzZXNzaW9uSWQiOiJhYTExYmIyMiIsInByZWltYWdlIjoiY2NkZCJ9fQ"
	for _, scheme := range []string{"Payment ", "payment "} {
		p, err := paywall.ReadProof(map[string][]string{"Authorization": {scheme + charge}})
		want := paywall.Credential{
			Challenge: paywall.Challenge{ID: "kM9xPqWvT2nJrHsY4aDfEb", Realm: "api.example.com", Method: "lightning", Intent: "charge", Request: "eyJhbW91bnQiOiIxMDAifQ", Expires: "2026-03-15T12:05:00Z"},
			Payload:   paywall.Payload{Preimage: "a3f1e2d4b5c6a7e8"},
		}
		if err != nil || *p.Payment != want {
			t.Errorf("%+v, %v", p.Payment, err)
		}
	}
	p, err := paywall.ReadProof(map[string][]string{"Authorization": {"Payment " + bearer}})
	if err != nil || p.Payment.Payload != (paywall.Payload{Action: "bearer", SessionID: "aa11bb22", Preimage: "ccdd"}) {
		t.Errorf("%+v, %v", p.Payment, err)
	}
	for _, bad := range []string{
		"Payment ", "Payment !!!invalid!!!", "Payment AB", "Payment e29vcHN9",
		"Payment eyJjaGFsbGVuZ2UiOnsicmVhbG0iOiJyIiwibWV0aG9kIjoibGlnaHRuaW5nIiwiaW50ZW50IjoiY2hhcmdlIiwicmVxdWVzdCI6ImNRIn0sInBheWxvYWQiOnt9fQ",
		"Payment eyJjaGFsbGVuZ2UiOnsiaWQiOiJpIiwicmVhbG0iOiJyIiwibWV0aG9kIjoibGlnaHRuaW5nIiwiaW50ZW50IjoiY2hhcmdlIiwicmVxdWVzdCI6ImNRIn19",
	} {
		if p, err := paywall.ReadProof(map[string][]string{"Authorization": {bad}}); err == nil {
			t.Errorf("%s is read as %+v", bad, p)
		}
	}
	if p, err := paywall.ReadProof(map[string][]string{"Authorization": {"Bearer abc123"}}); err != nil || !p.None() {
		t.Errorf("another scheme's credential: %+v, %v", p, err)
	}
	r, err := paywall.ReadReceipt("eyJzdGF0dXMiOiJzdWNjZXNzIiwibWV0aG9kIjoibGlnaHRuaW5nIiwidGltZXN0YW1wIjoiMjAyNi0wMy0xMFQyMTowMDowMFoiLCJyZWZlcmVuY2UiOiJiYzIzMDg0N2FiY2RlZjEyMzQ1Njc4OTAiLCJjaGFsbGVuZ2VJZCI6ImtNOXhQcVd2VDJuSnJIc1k0YURmRWIifQ")
	if want := (paywall.Receipt{Status: "success", Method: "lightning", Timestamp: "2026-03-10T21:00:00Z", Reference: "bc230847abcdef1234567890", ChallengeID: "kM9xPqWvT2nJrHsY4aDfEb"}); err != nil || r != want {
		t.Errorf("%+v, %v", r, err)
	}
}
