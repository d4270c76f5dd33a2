// Kernels by name, with the argument lists that a launch through the driver has as an array of pointers.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <utility>

// Takes the arguments' values, as a launch does, and gives what a thread runs.
using Bind = std::function<std::function<void()>(void** arguments)>;

inline std::map<std::string, Bind>& registry() {
    static std::map<std::string, Bind> kernels;
    return kernels;
}

struct Registered {
    template <class... A>
    Registered(const char* name, void (*kernel)(A...)) {
        registry()[name] = [kernel](void** arguments) { return bind(kernel, arguments, std::index_sequence_for<A...>()); };
    }

    template <class... A, size_t... I>
    static std::function<void()> bind(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
        std::tuple<A...> values{*static_cast<A*>(arguments[I])...};
        return [kernel, values] { std::apply(kernel, values); };
    }
};
