// A local name: the module is not published anywhere yet, and a path with a host in it would promise a download. README.md
// says how a program of yours refers to it.
module dgemma

go 1.23
