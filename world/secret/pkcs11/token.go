//go:build pkcs11 && cgo

package pkcs11

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"

	"coinop.dev/core/keys"
	"coinop.dev/world/generation"
	"coinop.dev/world/secret"
)

// A Home is a file and the key in a token that wrapped it.
type Home struct {
	Address
	mu      sync.Mutex
	module  *pkcs11.Ctx
	session pkcs11.SessionHandle
	serial  string
	closed  bool
}

// OpenURL opens the token and logs in; see Parse for the URI.
func OpenURL(u *url.URL) (secret.Home, error) {
	a, err := Parse(u)
	if err != nil {
		return nil, err
	}
	h := &Home{Address: a}
	if err := h.open(); err != nil {
		return nil, a.named(err)
	}
	return h, nil
}

// open loads the module. It is never unloaded: it is one for the whole process, and
// another home may use it.
func (h *Home) open() error {
	if h.module = pkcs11.New(h.Module); h.module == nil {
		return fmt.Errorf("%s cannot be loaded as a PKCS#11 module; install it, or correct module-path", h.Module)
	}
	if err := h.module.Initialize(); err != nil && !is(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		return explain("start the module", err)
	}
	slot, err := h.slot()
	if err != nil {
		return err
	}
	if h.session, err = h.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		return explain("open a session", err)
	}
	if err := h.login(); err != nil {
		return errors.Join(err, h.Close())
	}
	return nil
}

// slot finds the token.
func (h *Home) slot() (uint, error) {
	slots, err := h.module.GetSlotList(true)
	if err != nil {
		return 0, explain("list tokens", err)
	}
	var found []uint
	var others []string
	for _, slot := range slots {
		info, err := h.module.GetTokenInfo(slot)
		if err != nil {
			continue // taken out meanwhile
		}
		label, serial := strings.TrimRight(info.Label, " \x00"), strings.TrimRight(info.SerialNumber, " \x00")
		if (h.Token == "" || h.Token == label) && (h.Serial == "" || h.Serial == serial) {
			found, h.serial = append(found, slot), serial
			continue
		}
		others = append(others, fmt.Sprintf("%.32q (serial %.16q)", label, serial))
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, fmt.Errorf("there is no such token; plug it in, or name one of: %s", strings.Join(others, ", "))
	}
	return 0, fmt.Errorf("%d tokens have this label; add serial=", len(found))
}

func (h *Home) login() error {
	pin, err := secret.ReadWord(h.Pin)
	if err != nil {
		return err
	}
	defer clear(pin)
	err = h.module.Login(h.session, pkcs11.CKU_USER, string(pin))
	if is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		return nil
	}
	return explain("log in", err)
}

// Load is secret.Home's.
func (h *Home) Load() (s secret.Seed, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	raw, err := secret.Read(h.File)
	if err != nil {
		return s, h.named(err)
	}
	w, err := parseWrapped(raw)
	if err != nil {
		return s, h.named(fmt.Errorf("%s: %w", h.File, err))
	}
	key, mac, err := h.key()
	if errors.Is(err, errNoKey) {
		return s, h.named(fmt.Errorf("%w; use the token that wrapped it (serial %.64q) and its key", ErrOther, w.Serial))
	}
	if err != nil {
		return s, h.named(err)
	}
	wrap, err := h.derive(key, mac, w.Salt)
	if err != nil {
		return s, h.named(err)
	}
	defer clear(wrap)
	plain, err := w.open(wrap)
	if err != nil {
		return s, h.named(err)
	}
	defer clear(plain)
	s, err = secret.NewSeed(plain)
	return s, h.named(err)
}

// Store is secret.Home's. It makes the key in the token if it is not there.
func (h *Home) Store(s secret.Seed) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := os.Lstat(h.File); err == nil {
		return h.named(fmt.Errorf("%s: %w", h.File, secret.ErrFull))
	}
	plain := s.Reveal()
	defer clear(plain)
	if _, err := secret.NewSeed(plain); err != nil {
		return h.named(err)
	}
	key, mac, err := h.key()
	if errors.Is(err, errNoKey) {
		key, mac, err = h.generate()
	}
	if err != nil {
		return h.named(err)
	}
	w := wrapped{Format: format, Serial: h.serial, MAC: mac, Salt: make([]byte, saltSize)}
	rand.Read(w.Salt)
	wrap, err := h.derive(key, mac, w.Salt)
	if err != nil {
		return h.named(err)
	}
	defer clear(wrap)
	if err := w.seal(wrap, plain); err != nil {
		return h.named(err)
	}
	return h.named(secret.Create(h.File, w.marshal()))
}

var errNoKey = errors.New("the token has no such key")

// find returns the objects that have all attributes, limit at most.
func (h *Home) find(limit int, template ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if h.closed {
		return nil, errors.New("the home is closed")
	}
	if err := h.module.FindObjectsInit(h.session, template); err != nil {
		return nil, explain("look for an object", err)
	}
	found, _, err := h.module.FindObjects(h.session, limit)
	return found, explain("look for an object", errors.Join(err, h.module.FindObjectsFinal(h.session)))
}

// key finds the key that wraps, and refuses one that can leave the token.
func (h *Home) key() (key pkcs11.ObjectHandle, mac string, err error) {
	found, err := h.find(2, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, h.Object))
	switch {
	case err != nil:
		return 0, "", err
	case len(found) == 0:
		return 0, "", errNoKey
	case len(found) > 1:
		return 0, "", errors.New("the token has several keys with this label; give each a label of its own")
	}
	values, err := h.module.GetAttributeValue(h.session, found[0], []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, nil), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, nil), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, nil),
	})
	if err != nil {
		return 0, "", explain("look at the key", err)
	}
	if no, yes := []byte{0}, []byte{1}; !bytes.Equal(values[1].Value, yes) || !bytes.Equal(values[2].Value, no) {
		return 0, "", errors.New("the key can leave the token, so it protects nothing; make one that is sensitive and not extractable, or name a label that is free and coinop makes one")
	}
	switch kind := values[0].Value; {
	case bytes.Equal(kind, number(pkcs11.CKK_GENERIC_SECRET)), bytes.Equal(kind, number(pkcs11.CKK_SHA256_HMAC)):
		return found[0], hmacSHA256, nil
	case bytes.Equal(kind, number(pkcs11.CKK_AES)):
		return found[0], aesCMAC, nil
	}
	return 0, "", errors.New("the key is neither for HMAC nor AES; name one that is, or a label that is free and coinop makes one")
}

// number is a CK_ULONG as the module writes it.
func number(n uint) []byte { return pkcs11.NewAttribute(0, n).Value }

// generate makes a key for HMAC that never leaves the token.
func (h *Home) generate() (pkcs11.ObjectHandle, string, error) {
	key, err := h.module.GenerateKey(h.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, nil)}, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, h.Object),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
	})
	return key, hmacSHA256, explain("make a key", err)
}

// derive has the token compute the 32 bytes that belong to a salt.
func (h *Home) derive(key pkcs11.ObjectHandle, mac string, salt []byte) ([]byte, error) {
	if mac == hmacSHA256 {
		return h.sign(key, pkcs11.CKM_SHA256_HMAC, salt)
	}
	first, err := h.sign(key, pkcs11.CKM_AES_CMAC, append([]byte{1}, salt...))
	if err != nil {
		return nil, err
	}
	defer clear(first)
	second, err := h.sign(key, pkcs11.CKM_AES_CMAC, append([]byte{2}, salt...))
	if err != nil {
		return nil, err
	}
	defer clear(second)
	return append(bytes.Clone(first), second...), nil
}

func (h *Home) sign(key pkcs11.ObjectHandle, mechanism uint, data []byte) ([]byte, error) {
	if err := h.module.SignInit(h.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, key); err != nil {
		return nil, explain("compute a MAC", err)
	}
	sum, err := h.module.Sign(h.session, data)
	return sum, explain("compute a MAC", err)
}

// Counter is an object in the token.
func (h *Home) Counter(node keys.Public) generation.Counter { return &counter{h, node} }

// Close ends the session with the token.
func (h *Home) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	return h.named(explain("close the session", h.module.CloseSession(h.session)))
}
