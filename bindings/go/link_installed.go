//go:build dgemma_installed

package dgemma

// An installed library (`cargo xtask install`), found by pkg-config: go build -tags dgemma_installed.

// #cgo pkg-config: dgemma
import "C"
