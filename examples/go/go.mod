module examples

go 1.23

require dgemma v0.0.0

replace dgemma => ../../bindings/go
