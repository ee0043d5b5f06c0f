"""Where things are and what moving them costs: pure values, no IO."""
