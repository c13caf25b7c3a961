//go:build !omit_demo && omit_ledger

package main

// ledgerCourses are those over ledgers: none in this build.
var ledgerCourses map[string]func(*demo) course
