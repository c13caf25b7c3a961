//go:build !pkcs11 || !cgo

package pkcs11

import (
	"errors"
	"net/url"

	"coinop.dev/world/secret"
)

// ErrBuild means that the build has no PKCS#11.
var ErrBuild = errors.New("this build has no PKCS#11; build with CGO_ENABLED=1 go build -tags pkcs11 ./cmd/coinop")

// OpenURL says which build has the scheme.
func OpenURL(u *url.URL) (secret.Home, error) {
	a, err := Parse(u)
	if err != nil {
		return nil, err
	}
	return nil, a.named(ErrBuild)
}
