package paywall

import (
	"encoding/base64"
	"errors"
	"strings"
)

const (
	// MaxChallenges bounds how many challenges of one answer are read.
	MaxChallenges = 32
	// MaxParams bounds the parameters of one.
	MaxParams = 32
)

// An Offer is one challenge of any scheme in WWW-Authenticate (RFC 9110,
// section 11.6.1), its names in lower case.
type Offer struct {
	Scheme string
	Params map[string]string
}

// ReadOffers takes all challenges out of the values of WWW-Authenticate, which
// proxies may have joined with commas. Of a parameter that stands twice the first
// counts, so that nobody on the way can override it. What is no challenge is left
// out.
func ReadOffers(values []string) (all []Offer) {
	for _, v := range values {
		s := scanner{v}
		for s.skip(" \t,"); s.rest != "" && len(all) < MaxChallenges; s.skip(" \t,") {
			name := s.token()
			if name == "" {
				break // nothing that follows can be told apart
			}
			s.skip(" \t")
			value, is := s.value()
			switch {
			case !is:
				all = append(all, Offer{strings.ToLower(name), map[string]string{}})
			case len(all) > 0:
				p := all[len(all)-1].Params
				if name = strings.ToLower(name); len(p) < MaxParams && p[name] == "" {
					p[name] = value
				}
			}
		}
	}
	return all
}

// scanner takes the parts of a header off its front.
type scanner struct{ rest string }

func (s *scanner) skip(what string) { s.rest = strings.TrimLeft(s.rest, what) }

func (s *scanner) token() string {
	n := strings.IndexFunc(s.rest, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
	if n < 0 {
		n = len(s.rest)
	}
	taken := s.rest[:n]
	s.rest = s.rest[n:]
	return taken
}

// value takes "=" and what follows it; false if there is no "=".
func (s *scanner) value() (string, bool) {
	rest, is := strings.CutPrefix(s.rest, "=")
	if !is {
		return "", false
	}
	s.rest = rest
	s.skip(" \t")
	if !strings.HasPrefix(s.rest, `"`) {
		return s.token(), true
	}
	var text strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			s.rest = s.rest[i+1:]
			return text.String(), true
		case c == '\\' && i+1 < len(s.rest):
			i++
			text.WriteByte(s.rest[i])
		default:
			text.WriteByte(c)
		}
	}
	s.rest = "" // no closing quote: cut short
	return "", true
}

// param is one auth-param in the order it is written.
type param struct{ name, value string }

// join writes a challenge; empty parameters are left out.
func join(scheme string, params ...param) string {
	var b strings.Builder
	b.WriteString(scheme)
	sep := " "
	for _, p := range params {
		if p.value == "" {
			continue
		}
		b.WriteString(sep + p.name + `="`)
		for _, c := range []byte(p.value) {
			switch {
			case c == '"' || c == '\\':
				b.WriteByte('\\')
			case c < ' ' && c != '\t' || c == 0x7f:
				continue // no header may carry it
			}
			b.WriteByte(c)
		}
		b.WriteByte('"')
		sep = ", "
	}
	return b.String()
}

// credentials splits "Scheme token" (RFC 9110, section 11.4); the scheme comes in
// lower case.
func credentials(value string) (scheme, token string) {
	scheme, token, _ = strings.Cut(strings.TrimSpace(value), " ")
	return strings.ToLower(scheme), strings.TrimSpace(token)
}

var errBase64 = errors.New("it is not base64url")

// encode64 is base64url without padding.
func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decode64 reads base64url, padded rightly or not at all. Bytes have one
// spelling: stray bits, line ends and the standard alphabet are refused.
func decode64(text string) ([]byte, error) {
	enc := base64.RawURLEncoding
	if strings.HasSuffix(text, "=") {
		enc = base64.URLEncoding
	}
	b, err := enc.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return nil, errBase64
	}
	return b, nil
}
