"""Other libraries' models: a few lines over ``flatconv.patch`` and ``flatconv.fold``, a module for each library."""
