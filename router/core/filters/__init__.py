"""Why a pool may not serve a request. Each filter says one kind of no; none ranks."""
