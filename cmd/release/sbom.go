package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"runtime/debug"
	"strings"
	"time"
)

// What follows is the part of CycloneDX 1.5 (https://cyclonedx.org/docs/1.5/json)
// that a Go binary can fill by itself.

type bom struct {
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Serial       string       `json:"serialNumber"`
	Version      int          `json:"version"` // of this document
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	Hashes     []digest   `json:"hashes,omitempty"`
	Licenses   []licence  `json:"licenses,omitempty"`
	PURL       string     `json:"purl"`
	Properties []property `json:"properties,omitempty"`
}

type digest struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"` // hex
}

type licence struct {
	License struct {
		ID string `json:"id"`
	} `json:"license"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// materials is a binary's bill of materials: what Go wrote into it.
func materials(info *buildinfo.BuildInfo, program []byte, version string, at time.Time) ([]byte, error) {
	sum := sha256.Sum256(program)
	own := component{Type: "application", Name: "coinop", Version: version, PURL: purl(info.Main.Path, version), Hashes: []digest{{"SHA-256", hex.EncodeToString(sum[:])}}}
	own.Ref = own.PURL
	own.Licenses = make([]licence, 1)
	own.Licenses[0].License.ID = "MIT"
	for _, s := range info.Settings {
		own.Properties = append(own.Properties, property{"go:" + s.Key, s.Value})
	}
	all := []component{{Type: "library", Name: "std", Version: info.GoVersion, PURL: purl("std", strings.TrimPrefix(info.GoVersion, "go"))}}
	for _, m := range info.Deps {
		c, err := library(m)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	needs := dependency{Ref: own.Ref}
	edges := []dependency{}
	for i := range all {
		all[i].Ref = all[i].PURL
		needs.DependsOn = append(needs.DependsOn, all[i].Ref)
		edges = append(edges, dependency{Ref: all[i].Ref})
	}
	id := sum // a UUID of version 8 (RFC 9562, section 5.8): the binary's own
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	raw, err := json.MarshalIndent(bom{
		Format: "CycloneDX", Spec: "1.5", Version: 1,
		Serial:     fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16]),
		Metadata:   metadata{at.Format(time.RFC3339), own},
		Components: all, Dependencies: append([]dependency{needs}, edges...),
	}, "", "  ")
	return append(raw, '\n'), err
}

// library is a module in a binary. Its hash is that of go.sum: over the names
// and hashes of its files.
func library(m *debug.Module) (component, error) {
	if m.Replace != nil {
		m = m.Replace
	}
	c := component{Type: "library", Name: m.Path, Version: m.Version, PURL: purl(m.Path, m.Version)}
	if text, ok := strings.CutPrefix(m.Sum, "h1:"); ok {
		sum, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return c, fmt.Errorf("%s: sum %q: %w", m.Path, m.Sum, err)
		}
		c.Hashes = []digest{{"SHA-256", hex.EncodeToString(sum)}}
	}
	return c, nil
}

// purl is a package URL of type golang.
func purl(path, version string) string {
	return "pkg:golang/" + path + "@" + url.PathEscape(version)
}
