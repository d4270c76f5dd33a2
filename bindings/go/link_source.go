//go:build !dgemma_installed

package dgemma

// The library of the source tree that this package lies in, as `cargo build --release` leaves it. Programs find it there
// when they run, too.

// #cgo CFLAGS: -I${SRCDIR}/../../include
// #cgo LDFLAGS: -L${SRCDIR}/../../target/release -ldgemma -Wl,-rpath,${SRCDIR}/../../target/release
import "C"
