package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manCommand writes the manual from the commands themselves, so that it says
// what they do. Packages call it; people call man.
func manCommand(*ui) *cobra.Command {
	return &cobra.Command{
		Use: "man [folder]", Short: "Write the man pages into a folder, or the first to stdout", Hidden: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage{fmt.Errorf("man takes one folder, and got %q", args)}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				_, err := io.WriteString(c.OutOrStdout(), manPage(c.Root()))
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return writePages(args[0], c.Root())
		},
	}
}

func writePages(folder string, c *cobra.Command) error {
	path := filepath.Join(folder, manName(c)+".1")
	if err := os.WriteFile(path, []byte(manPage(c)), 0o644); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			if err := writePages(folder, sub); err != nil {
				return err
			}
		}
	}
	return nil
}

// manName is as git's pages are named: coinop-channel-open.
func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage is a command's page in the language of man(7).
func manPage(c *cobra.Command) string {
	c.InitDefaultHelpFlag()
	var b strings.Builder
	version, date := buildOf()
	fmt.Fprintf(&b, ".TH %s 1 %s %s \"Manual of coinop\"\n", strings.ToUpper(roff(manName(c))), date, roff("coinop "+version))
	// Text is flush left: a word is a flag or an address, and not to be broken.
	fmt.Fprintf(&b, ".nh\n.ad l\n.SH NAME\n%s \\- %s\n.SH SYNOPSIS\n", roff(manName(c)), roff(c.Short))
	if c.Runnable() {
		fmt.Fprintf(&b, ".B %s\n", roff(c.UseLine()))
	} else {
		fmt.Fprintf(&b, ".B %s\n.I command\n", roff(c.CommandPath()))
	}
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", roff(long))
	var see []string
	if c.HasParent() {
		see = append(see, manName(c.Parent()))
	}
	if c.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s.\n", roff(sub.CommandPath()), roff(sub.Short))
				see = append(see, manName(sub))
			}
		}
	}
	manFlags(&b, "OPTIONS", c.NonInheritedFlags())
	manFlags(&b, "OPTIONS OF ALL COMMANDS", c.InheritedFlags())
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(c.Example))
	}
	if !c.HasParent() {
		b.WriteString(".SH EXIT STATUS\n")
		for _, e := range []struct {
			code int
			text string
		}{
			{exitOK, "It is done."}, {exitFailed, "It failed."}, {exitUsage, "A mistake on the command line or in the config file."},
			{exitConnect, "No connection."}, {exitAuth, "Not allowed."}, {exitNotFound, "No such thing."},
			{exitRefused, "Refused by a limit; nothing was sent."},
			{exitUnknown, "The payment may have been made: ask again with the same order, and nothing is paid twice."},
		} {
			fmt.Fprintf(&b, ".TP\n.B %d\n%s\n", e.code, roff(e.text))
		}
		b.WriteString(".SH ENVIRONMENT\n.TP\n.B COINOP_KEY\nThe machine's key, for the key URI env:.\n.TP\n.BI COINOP_ NAME\nOverrides the key\n.I name\nof the config file's first level, in capitals.\n")
		b.WriteString(".SH FILES\n.TP\n.I /etc/coinop/coinop.toml\nThe config file of the service.\n.TP\n.I /var/lib/coinop\nThe service's key, store and backup.\n")
	}
	if len(see) > 0 {
		fmt.Fprintf(&b, ".SH SEE ALSO\n")
		for i, name := range see {
			comma := " ,"
			if i == len(see)-1 {
				comma = ""
			}
			fmt.Fprintf(&b, ".BR %s (1)%s\n", roff(name), comma)
		}
	}
	return b.String()
}

func manFlags(b *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		value, text := pflag.UnquoteUsage(f)
		if value != "" {
			value = " \\fI" + roff(value)
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "[]" {
			text += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(b, ".TP\n\\fB%s%s\\fR\n%s\n", roff(name), value, roff(text))
	})
}

// buildOf is this build's version, and the day of its commit: a page of one
// version is the same whenever it is made.
func buildOf() (version, date string) {
	version = "devel"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, `""`
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		version = v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" && len(s.Value) >= len("2006-01-02") {
			return version, s.Value[:len("2006-01-02")]
		}
	}
	return version, `""`
}

// roff is text that no request of roff hides in. A hyphen is one to copy and
// paste; an empty line is a paragraph.
func roff(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r > unicode.MaxASCII:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	lines := strings.Split(b.String(), "\n")
	for i, line := range lines {
		switch {
		case line == "":
			lines[i] = ".PP"
		case line[0] == '.' || line[0] == '\'':
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
