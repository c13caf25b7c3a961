package fleet_test

import (
	"errors"
	"strings"
	"testing"

	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

var raw = [fleet.CodeSize]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}

func TestACodeReadsAloud(t *testing.T) {
	text := fleet.Code(raw)
	if len(text) != 25 || strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
		t.Errorf("%q does not fit a QR code's alphanumeric mode", text)
	}
	for _, same := range []string{text, strings.ToLower(text), text[:3] + "-" + text[3:9] + " " + text[9:]} {
		if got, err := fleet.ParseCode(same); err != nil || got != raw {
			t.Errorf("%q: %v, %v", same, got, err)
		}
	}
	for i := range text {
		slip := text[:i] + "7" + text[i+1:]
		if _, err := fleet.ParseCode(slip); slip != text && err == nil {
			t.Errorf("%q is taken for %q", slip, text)
		}
	}
}

func (h *house) invite(name string, replace bool) string {
	h.t.Helper()
	return h.must(fleet.Invite{Code: raw, Device: fleet.Profile{Name: name, Tenant: "bar"}, Replace: replace, Expires: h.now + step.Hour}).(string)
}

func TestADeviceClaimsItsPlace(t *testing.T) {
	h := newHouse(t)
	code := h.invite("tap", false)
	h.reload()
	for key, value := range h.disk {
		if strings.Contains(string(value), string(raw[2:])) {
			t.Errorf("the code is on disk in %q", key)
		}
	}
	key := secret("tap").Public()
	for range 2 { // the answer may be lost
		c := h.must(fleet.Claim{Code: code, Key: key}).(fleet.Claimed)
		if c.Name != "tap" || c.Tenant != "bar" || c.Gateway != h.config.Node.Public() || c.Key != key {
			t.Errorf("it is %+v", c)
		}
		h.reload()
	}
	if _, err := h.ask(fleet.Claim{Code: code, Key: secret("thief").Public()}); !errors.Is(err, money.Refused) {
		t.Errorf("a used code: %v", err)
	}
	// Its hardware is replaced; the old one is out.
	h.tell(deliver(1, "tap", 0))
	h.now += 2 * step.Hour
	code = h.invite("tap", true)
	fx := h.tell(fleet.Claim{Code: code, Key: secret("new").Public()})
	if d := delivered(t, fx); money.KindOf(d.Err) != money.Pending || !strings.Contains(d.Err.Error(), "replaced") {
		t.Errorf("its order: %+v", d)
	}
	if d := h.device("tap"); d.Key != secret("new").Public() || d.Generation != 2 || d.Tenant != "bar" {
		t.Errorf("%+v", d)
	}
	if _, ok := h.fleet.ByKey(key); ok {
		t.Error("the old hardware is still known")
	}
	h.reload()
}

func TestWhoMayNotClaim(t *testing.T) {
	h := newHouse(t)
	code := h.invite("tap", false)
	wrong := raw
	wrong[9]++
	claim := func(code string) error {
		_, err := h.ask(fleet.Claim{Code: code})
		h.reload()
		return err
	}
	if err := claim("CP1QQQQ"); !errors.Is(err, money.Invalid) {
		t.Errorf("a slip: %v", err)
	}
	for range fleet.MaxTries {
		if err := claim(fleet.Code(wrong)); !errors.Is(err, money.Refused) {
			t.Errorf("a guess: %v", err)
		}
	}
	if err := claim(code); !errors.Is(err, money.Refused) {
		t.Errorf("after %d guesses the code opens still: %v", fleet.MaxTries, err)
	}
	h.now += 2 * step.Hour
	code = h.invite("tap", false)
	h.now += step.Hour
	if err := claim(code); !errors.Is(err, money.Refused) {
		t.Errorf("an old code: %v", err)
	}
	// A device without a key has its secret from the one answer, and no other.
	h.now += step.Hour
	code = h.invite("tap", false)
	if err := claim(code); err != nil || h.device("tap").Key != (keys.Public{}) {
		t.Errorf("without a key: %v", err)
	}
	if err := claim(code); !errors.Is(err, money.Refused) {
		t.Errorf("its code again: %v", err)
	}
	for why, v := range map[string]fleet.Invite{
		"is there already":      {Code: [10]byte{9}, Device: fleet.Profile{Name: "tap"}, Expires: h.now + 1},
		"nothing to replace":    {Code: [10]byte{9}, Device: fleet.Profile{Name: "other"}, Expires: h.now + 1, Replace: true},
		"within 30 days":        {Code: [10]byte{9}, Device: fleet.Profile{Name: "other"}, Expires: h.now + 31*step.Day},
		"too much like another": {Code: raw, Device: fleet.Profile{Name: "other"}, Expires: h.now + 1},
		"a name is":             {Code: [10]byte{9}, Expires: h.now + 1},
	} {
		if _, err := h.ask(v); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
}
