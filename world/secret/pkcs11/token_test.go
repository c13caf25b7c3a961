//go:build pkcs11 && cgo

package pkcs11_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"coinop.dev/core/keys"
	"coinop.dev/world/secret"
	"coinop.dev/world/secret/pkcs11"
	"coinop.dev/world/secret/secrettest"
)

const (
	module = "/usr/lib/softhsm/libsofthsm2.so"
	pin    = "271828"
)

// pins are files with a right and a wrong PIN.
var pins struct{ right, wrong string }

// softhsm2 reads its folder when the module is started, so there is one for all
// tests; each test takes a key label of its own.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		if _, err := exec.LookPath("softhsm2-util"); err != nil {
			fmt.Println("softhsm2 is not installed, so no token is tested: apt-get install softhsm2")
			return 0
		}
		dir, err := os.MkdirTemp("", "softhsm")
		if err == nil {
			defer os.RemoveAll(dir)
			err = prepare(dir)
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
		return m.Run()
	}())
}

func prepare(dir string) error {
	pins.right, pins.wrong = filepath.Join(dir, "pin"), filepath.Join(dir, "wrong")
	conf := filepath.Join(dir, "conf")
	err := errors.Join(
		os.Mkdir(filepath.Join(dir, "tokens"), 0o700),
		os.WriteFile(pins.right, []byte(pin+"\n"), 0o600),
		os.WriteFile(pins.wrong, []byte("31415926\n"), 0o600),
		os.WriteFile(conf, []byte("directories.tokendir = "+dir+"/tokens\nlog.level = ERROR\n"), 0o600),
		os.Setenv("SOFTHSM2_CONF", conf),
	)
	for _, label := range []string{"site", "other", "twin", "twin"} {
		if err == nil {
			_, err = exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", pin).Output()
		}
	}
	return err
}

// uri names a home on a token with its file in dir.
func uri(token, object, dir, pinFile string) string {
	return fmt.Sprintf("pkcs11:token=%s;object=%s?module-path=%s&pin-source=file:%s&file=%s/key", token, object, module, pinFile, dir)
}

func open(text string) (secret.Home, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	return pkcs11.OpenURL(u)
}

func onSite(object string) secrettest.Open {
	return func(dir string) (secret.Home, error) { return open(uri("site", object, dir, pins.right)) }
}

func TestHome(t *testing.T) {
	secrettest.Test(t, onSite("home"))
	secrettest.TestSealed(t, onSite("home"))
	secrettest.Damage(t, onSite("home"), 3)
}

func TestOldDiskImageIsRefused(t *testing.T) { secrettest.TestRollback(t, onSite("rollback")) }

func TestCounter(t *testing.T) { secrettest.Count(t, onSite("count")) }

// A key that is there already is used: for HMAC, or AES.
func TestKeysThatAreThere(t *testing.T) {
	for name, generate := range map[string]uint{"hmac": p11.CKM_GENERIC_SECRET_KEY_GEN, "aes": p11.CKM_AES_KEY_GEN} {
		t.Run(name, func(t *testing.T) {
			makeKey(t, name, generate, true, false)
			secrettest.Test(t, onSite(name))
		})
	}
}

// A key that can be taken out of the token protects nothing.
func TestKeysThatCanLeave(t *testing.T) {
	for name, flags := range map[string][2]bool{"extractable": {true, true}, "open": {false, false}} {
		makeKey(t, name, p11.CKM_GENERIC_SECRET_KEY_GEN, flags[0], flags[1])
		h, err := onSite(name)(t.TempDir())
		must(t, err)
		if err := h.Store(secrettest.Seed(t, 32)); err == nil || !strings.Contains(err.Error(), "can leave the token") {
			t.Errorf("%s: %v", name, err)
		}
		must(t, h.Close())
	}
}

// The key that coinop makes cannot be read, whatever is asked.
func TestTheKeyStaysInTheToken(t *testing.T) {
	h, err := onSite("stays")(t.TempDir())
	must(t, err)
	defer h.Close()
	must(t, h.Store(secrettest.Seed(t, 32)))
	ctx, session := login(t)
	must(t, ctx.FindObjectsInit(session, []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, "stays")}))
	found, _, err := ctx.FindObjects(session, 2)
	must(t, errors.Join(err, ctx.FindObjectsFinal(session)))
	if len(found) != 1 {
		t.Fatalf("%d keys, want 1", len(found))
	}
	values, err := ctx.GetAttributeValue(session, found[0], []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)})
	if !errors.Is(err, p11.Error(p11.CKR_ATTRIBUTE_SENSITIVE)) {
		t.Errorf("the key's value: %d values, %v", len(values), err)
	}
}

// Another token, another key of the same token, a key that is gone.
func TestAnotherToken(t *testing.T) {
	dir, s := t.TempDir(), secrettest.Seed(t, 32)
	h, err := onSite("mine")(dir)
	must(t, err)
	must(t, h.Store(s))
	must(t, h.Close())
	for _, address := range [][2]string{{"other", "mine"}, {"site", "no-such-key"}, {"site", "yours"}} {
		h, err := open(uri(address[0], address[1], dir, pins.right))
		must(t, err)
		if address[1] == "yours" {
			makeKey(t, "yours", p11.CKM_GENERIC_SECRET_KEY_GEN, true, false)
		}
		if _, err := h.Load(); !errors.Is(err, pkcs11.ErrOther) || !strings.Contains(err.Error(), "serial") {
			t.Errorf("%v: %v", address, err)
		}
		must(t, h.Close())
	}
	for token, says := range map[string]string{"nowhere": `"site" (serial`, "twin": "2 tokens have this label"} {
		if _, err := open(uri(token, "mine", dir, pins.right)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("token %s: %v", token, err)
		}
	}
}

func TestWrongPinAndModule(t *testing.T) {
	dir := t.TempDir()
	_, err := open(uri("other", "key", dir, pins.wrong))
	if !errors.Is(err, pkcs11.ErrPin) || strings.Contains(err.Error(), "31415926") {
		t.Errorf("a wrong PIN: %v", err)
	}
	if _, err := open(uri("other", "key", dir, "/nowhere")); err == nil {
		t.Error("a PIN file that is not there")
	}
	u := strings.Replace(uri("other", "key", dir, pins.right), module, "/nowhere.so", 1)
	if _, err := open(u); err == nil || !strings.Contains(err.Error(), "correct module-path") {
		t.Errorf("no module: %v", err)
	}
	h, err := open(uri("other", "key", dir, pins.right)) // the token is not locked by it
	must(t, err)
	must(t, h.Close())
	must(t, h.Close())
	if err := h.Store(secrettest.Seed(t, 32)); err == nil {
		t.Error("a closed home stores")
	}
}

// Two machines on one key object would stop each other.
func TestACounterBelongsToAMachine(t *testing.T) {
	h, err := onSite("shared")(t.TempDir())
	must(t, err)
	defer h.Close()
	must(t, h.Counter(keys.Public{2}).Write(1))
	if _, err := h.Counter(keys.Public{3}).Read(); err == nil || !strings.Contains(err.Error(), "belongs to the machine with key") {
		t.Errorf("the other machine: %v", err)
	}
}

func login(t *testing.T) (*p11.Ctx, p11.SessionHandle) {
	t.Helper()
	ctx := p11.New(module)
	if err := ctx.Initialize(); err != nil && !errors.Is(err, p11.Error(p11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		t.Fatal(err)
	}
	slots, err := ctx.GetSlotList(true)
	must(t, err)
	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		must(t, err)
		if info.Label != "site" {
			continue
		}
		session, err := ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		must(t, err)
		if err := ctx.Login(session, p11.CKU_USER, pin); err != nil && !errors.Is(err, p11.Error(p11.CKR_USER_ALREADY_LOGGED_IN)) {
			t.Fatal(err)
		}
		t.Cleanup(func() { must(t, ctx.CloseSession(session)) })
		return ctx, session
	}
	t.Fatal("the token is not there")
	return nil, 0
}

func makeKey(t *testing.T, label string, mechanism uint, sensitive, extractable bool) {
	t.Helper()
	ctx, session := login(t)
	_, err := ctx.GenerateKey(session, []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_LABEL, label), p11.NewAttribute(p11.CKA_VALUE_LEN, 32), p11.NewAttribute(p11.CKA_TOKEN, true),
		p11.NewAttribute(p11.CKA_SENSITIVE, sensitive), p11.NewAttribute(p11.CKA_EXTRACTABLE, extractable), p11.NewAttribute(p11.CKA_SIGN, true),
	})
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A start that was cut off between the two steps of a write leaves a number too many: the
// highest one counts, and the next write clears up.
func TestACounterThatWasCutOff(t *testing.T) {
	h, err := onSite("cut")(t.TempDir())
	must(t, err)
	defer h.Close()
	c := h.Counter(keys.Public{2})
	must(t, c.Write(7))
	ctx, session := login(t)
	for _, n := range []byte{8, 1, 2, 3, 4, 5, 6} {
		value := append([]byte{7: n, 8: 2}, make([]byte, 32)...)
		_, err = ctx.CreateObject(session, []*p11.Attribute{
			p11.NewAttribute(p11.CKA_CLASS, p11.CKO_DATA), p11.NewAttribute(p11.CKA_LABEL, "cut/generation"),
			p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_VALUE, value),
		})
		must(t, err)
	}
	if n, err := c.Read(); n != 8 || err != nil {
		t.Errorf("several numbers: %d, %v", n, err)
	}
	must(t, c.Write(9))
	must(t, ctx.FindObjectsInit(session, []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, "cut/generation")}))
	found, _, err := ctx.FindObjects(session, 4)
	must(t, errors.Join(err, ctx.FindObjectsFinal(session)))
	if n, err := c.Read(); n != 9 || err != nil || len(found) != 1 {
		t.Errorf("after it: %d, %v, %d objects", n, err, len(found))
	}
}
