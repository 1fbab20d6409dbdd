"""The process that accepts connections and shares out slots."""
