//go:build !pkcs11 || !cgo

package pkcs11_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"coinop.dev/world/secret/pkcs11"
)

// A build without the tag names the tag, after it has checked the URI.
func TestTheErrorNamesTheTag(t *testing.T) {
	u, err := url.Parse("pkcs11:token=site;object=coinop?module-path=/m&pin-source=file:/p&file=/f")
	if err != nil {
		t.Fatal(err)
	}
	if h, err := pkcs11.OpenURL(u); h != nil || !errors.Is(err, pkcs11.ErrBuild) || !strings.Contains(err.Error(), "go build -tags pkcs11") {
		t.Errorf("got %v", err)
	}
	u.Opaque = "token=site"
	if _, err := pkcs11.OpenURL(u); err == nil || errors.Is(err, pkcs11.ErrBuild) {
		t.Errorf("a wrong URI: %v", err)
	}
}
